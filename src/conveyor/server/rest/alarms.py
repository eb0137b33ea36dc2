"""Alarms: shown, set by hand, cancelled, and armed again where they are parked."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta

from conveyor.alarms import AHEAD_MS_MAX, rearm, set_by_hand
from conveyor.model.beside import AlarmNotFoundError
from conveyor.model.ids import IdSource
from conveyor.model.refusals import InvalidRequestError
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import cut_page, read_cursor
from conveyor.server.rest.shapes import Asked, Moment, Page, PageAsked, Told, maybe_moment, moment
from conveyor.server.rights import Right
from conveyor.store.records import Alarm, AlarmState


class AlarmsAsked(PageAsked, frozen=True, kw_only=True):
    """Which alarms, and which part of their list."""

    parked: bool = False
    """Only those whose retries are spent."""


class AlarmShown(Told, frozen=True, kw_only=True):
    """An alarm as it stands."""

    name: str
    queue: str
    state: AlarmState
    due: Moment
    """For when it was set."""
    next: Moment | None
    """When it rings, or is tried again; null while it runs, and where it is parked."""
    attempts: int | None
    set_at: Moment
    failed_at: Moment | None
    error: str | None
    message_id: str
    """Of the message that rings it."""


class RearmAsked(Asked, frozen=True, kw_only=True):
    """When a parked alarm is to ring."""

    after_ms: Annotated[int, Meta(ge=0, le=AHEAD_MS_MAX)] = 0


class AlarmWanted(Asked, frozen=True, kw_only=True):
    """When an alarm is to ring: one of both."""

    after_ms: Annotated[int, Meta(ge=0, le=AHEAD_MS_MAX)] | None = None
    at: datetime | None = None
    """RFC 3339, with a time zone; what is past rings at once."""
    app: Annotated[str, Meta(min_length=1, max_length=56)] | None = None
    """Whose it is, where it was never set before."""


async def list_alarms(call: Call) -> Answer:
    """Alarms by name."""
    asked = read_query(call, AlarmsAsked)
    of = "parked alarms" if asked.parked else "alarms"
    after = read_cursor(of, asked.cursor, str)
    found = await call.store.list_alarms(limit=asked.limit + 1, after=after, only_parked=asked.parked)
    page = cut_page(of, found, asked.limit, lambda each: each.name)
    return Answer.json(Page(items=[_show(each) for each in page.items], next_cursor=page.next_cursor))


async def get_alarm(call: Call) -> Answer:
    """An alarm as it stands."""
    name = call.path["alarm"]
    found = await call.store.get_alarm(name)
    if found is None:
        raise AlarmNotFoundError(name)
    return Answer.json(_show(found))


async def set_alarm(call: Call) -> Answer:
    """Set an alarm by hand, in place of what it was set to."""
    asked = call.decode(AlarmWanted)
    if (asked.after_ms is None) == (asked.at is None):
        raise InvalidRequestError("say either `after_ms` or `at`", field="after_ms", status=422)
    if asked.at is not None and asked.at.tzinfo is None:
        raise InvalidRequestError("`at` has no time zone", hint="as in 2026-01-01T12:00:00Z", field="at", status=422)
    when = asked.at if asked.at is not None else (asked.after_ms or 0) / 1000
    ids = IdSource(call.store.clock)
    return Answer.json(_show(await set_by_hand(call.store, ids, call.path["alarm"], when, app=asked.app)))


async def rearm_alarm(call: Call) -> Answer:
    """Set a parked alarm again, with all its retries."""
    asked = call.decode(RearmAsked) if call.body else RearmAsked()
    ids = IdSource(call.store.clock)
    return Answer.json(_show(await rearm(call.store, ids, call.path["alarm"], asked.after_ms / 1000)))


async def cancel_alarm(call: Call) -> Answer:
    """Cancel an alarm; a run that has begun goes on, and is not tried again."""
    name = call.path["alarm"]
    if not await call.store.cancel_alarm(name):
        raise AlarmNotFoundError(name)
    return Answer(204)


def _show(alarm: Alarm) -> AlarmShown:
    return AlarmShown(
        name=alarm.name,
        queue=alarm.queue,
        state=alarm.state,
        due=moment(alarm.due_at),
        next=maybe_moment(alarm.next_at),
        attempts=alarm.attempts,
        set_at=moment(alarm.set_at),
        failed_at=maybe_moment(alarm.failed_at),
        error=alarm.error,
        message_id=alarm.message_id.hex(),
    )


OPERATIONS: Final = (
    Operation(
        method="GET", path="/alarms", right=Right.READ, scope="store", handle=list_alarms, query=AlarmsAsked,
        gives=Page[AlarmShown],
    ),
    Operation(
        method="GET", path="/alarms/{alarm}", right=Right.READ, scope="store", handle=get_alarm, gives=AlarmShown,
    ),
    Operation(
        method="PUT", path="/alarms/{alarm}", right=Right.MANAGE, scope="store", handle=set_alarm, action="alarm.set",
        takes=AlarmWanted, gives=AlarmShown,
    ),
    Operation(
        method="POST", path="/alarms/{alarm}/rearm", right=Right.MANAGE, scope="store", handle=rearm_alarm,
        action="alarm.rearm", takes=RearmAsked, may_be_empty=True, gives=AlarmShown,
    ),
    Operation(
        method="DELETE", path="/alarms/{alarm}", right=Right.MANAGE, scope="store", handle=cancel_alarm,
        action="alarm.cancel",
    ),
)  # fmt: skip
