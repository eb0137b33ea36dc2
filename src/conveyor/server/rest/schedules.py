"""Schedules and their runs: listed, triggered, paused, resumed."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.cron_expression import CronExpression, Syntax
from conveyor.model.errors import ConflictError
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import cut_page, read_cursor
from conveyor.server.rest.shapes import Asked, Moment, Page, PageAsked, Told, maybe_moment, moment
from conveyor.server.rights import Right
from conveyor.store.records import Run, RunStatus, Schedule


class ScheduleShown(Told, frozen=True, kw_only=True):
    """A schedule as it operates now."""

    name: str
    app: str
    queue: str
    """Where its messages go."""
    expression: str
    syntax: str
    timezone: str
    misfire: str
    overlap: str
    jitter_ms: int
    paused: bool
    next_tick: Moment | None
    version: int


class RunShown(Told, frozen=True, kw_only=True):
    """One tick of a schedule, and what came of it."""

    schedule: str
    tick: Moment
    trigger: str
    """`schedule` or `manual`."""
    status: RunStatus
    correlation_id: str
    fired_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    error: str | None


class TriggerAsked(Asked, frozen=True, kw_only=True):
    """A run by hand."""

    correlation_id: Annotated[str, Meta(min_length=1, max_length=200, pattern="^[ -~]+$")] | None = None
    """To find the run again; else one is made."""


class Triggered(Told, frozen=True, kw_only=True):
    """The run that will be."""

    schedule: str
    correlation_id: str


async def list_schedules(call: Call) -> Answer:
    """Schedules by name."""
    asked = read_query(call, PageAsked)
    after = read_cursor("schedules", asked.cursor, str) or ""
    found = [each for each in await call.store.list_schedules() if each.draft.name > after]
    page = cut_page("schedules", found, asked.limit, lambda each: each.draft.name)
    return Answer.json(Page(items=[_show(each) for each in page.items], next_cursor=page.next_cursor))


async def get_schedule(call: Call) -> Answer:
    """A schedule as it operates now."""
    return Answer.json(_show(await call.store.get_schedule(call.path["schedule"])))


async def trigger_schedule(call: Call) -> Answer:
    """Run a schedule of the served app now, also while it is paused."""
    name = call.path["schedule"]
    asked = call.decode(TriggerAsked) if call.body else TriggerAsked()
    owner = (await call.store.get_schedule(name)).draft.app
    try:
        if call.app is None:
            raise ScheduleNotFoundError(name)
        correlation_id = await call.app.trigger(name, correlation_id=asked.correlation_id)
    except ScheduleNotFoundError:
        raise ConflictError(
            f"schedule `{name}` is one of app `{owner}`, which this server does not serve",
            hint="ask the server of that app, or use `conveyor cron trigger`",
        ) from None
    return Answer.json(Triggered(schedule=name, correlation_id=correlation_id), 202)


async def pause_schedule(call: Call) -> Answer:
    """Fire nothing until `resume`; ticks of the meantime are not made up for."""
    await call.store.pause_schedule(call.path["schedule"])
    return await get_schedule(call)


async def resume_schedule(call: Call) -> Answer:
    """Fire again, from the next tick on."""
    name = call.path["schedule"]
    draft = (await call.store.get_schedule(name)).draft
    expression = CronExpression.parse(draft.expression, syntax=Syntax(draft.syntax), timezone=draft.timezone)
    await call.store.resume_schedule(name, expression.next_after(call.store.clock.now_ms()))
    return await get_schedule(call)


async def list_runs(call: Call) -> Answer:
    """Runs of a schedule, the newest first."""
    name = call.path["schedule"]
    asked = read_query(call, PageAsked)
    of = f"runs of {name}"
    before = read_cursor(of, asked.cursor, int)
    await call.store.get_schedule(name)
    found = await call.store.list_runs(name, limit=asked.limit + 1, before_tick=before)
    page = cut_page(of, found, asked.limit, lambda run: run.tick)
    return Answer.json(Page(items=[_show_run(each) for each in page.items], next_cursor=page.next_cursor))


def _show(schedule: Schedule) -> ScheduleShown:
    draft = schedule.draft
    return ScheduleShown(
        name=draft.name,
        app=draft.app,
        queue=draft.queue,
        expression=draft.expression,
        syntax=draft.syntax,
        timezone=draft.timezone,
        misfire=draft.misfire,
        overlap=draft.overlap,
        jitter_ms=draft.jitter_ms,
        paused=schedule.paused,
        next_tick=None if schedule.paused else maybe_moment(schedule.next_tick),
        version=schedule.version,
    )


def _show_run(run: Run) -> RunShown:
    return RunShown(
        schedule=run.schedule,
        tick=moment(run.tick),
        trigger=run.trigger,
        status=run.status,
        correlation_id=run.correlation_id,
        fired_at=moment(run.fired_at),
        started_at=maybe_moment(run.started_at),
        finished_at=maybe_moment(run.finished_at),
        error=run.error,
    )


OPERATIONS: Final = (
    Operation(
        method="GET", path="/schedules", right=Right.READ, scope="store", handle=list_schedules, query=PageAsked,
        gives=Page[ScheduleShown],
    ),
    Operation(
        method="GET", path="/schedules/{schedule}", right=Right.READ, scope="store", handle=get_schedule,
        gives=ScheduleShown,
    ),
    Operation(
        method="POST", path="/schedules/{schedule}/trigger", right=Right.MANAGE, scope="store",
        handle=trigger_schedule, action="schedule.trigger", takes=TriggerAsked, may_be_empty=True, gives=Triggered,
        status=202,
    ),
    Operation(
        method="POST", path="/schedules/{schedule}/pause", right=Right.MANAGE, scope="store", handle=pause_schedule,
        action="schedule.pause", gives=ScheduleShown,
    ),
    Operation(
        method="POST", path="/schedules/{schedule}/resume", right=Right.MANAGE, scope="store", handle=resume_schedule,
        action="schedule.resume", gives=ScheduleShown,
    ),
    Operation(
        method="GET", path="/schedules/{schedule}/runs", right=Right.READ, scope="store", handle=list_runs,
        query=PageAsked, gives=Page[RunShown],
    ),
)  # fmt: skip
