"""The audit trail: who changed what, and whether anybody has meddled with it since."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from conveyor.audit.trail import Audit, Record, Wanted
from conveyor.model.refusals import InvalidRequestError
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import read_cursor, write_cursor
from conveyor.server.rest.shapes import Asked, Moment, Page, PageAsked, Told, moment
from conveyor.server.rights import Right


class RecordShown(Told, frozen=True, kw_only=True):
    """One line of the trail."""

    number: int
    at: Moment
    actor: str
    """The id of a token, `environment`, `cli`, or `library` for an app."""
    name: str
    address: str
    via: str
    """`http`, `cli` or `library`; empty in records of older releases."""
    action: str
    target: str
    result: str
    """`ok`, or the code of an error."""
    before: dict[str, Any] | None
    """What the change found; where `after` is there too, only what differs."""
    after: dict[str, Any] | None
    count: int | None
    """Of a change of many messages."""
    request_id: str
    hash: str


class RecordsAsked(PageAsked, frozen=True, kw_only=True):
    """Which records, and which part of their list; in all but `since`, `*` and `?` stand for any signs."""

    who: Annotated[str, Meta(max_length=256)] | None = None
    """An actor, a name, or `name@address`."""
    action: Annotated[str, Meta(max_length=64)] | None = None
    """As in `queue.*`."""
    target: Annotated[str, Meta(max_length=256)] | None = None
    since: datetime | None = None
    """ISO 8601, with a time zone."""
    before: Annotated[int, Meta(ge=1, le=10**15)] | None = None
    """Only those before this number; `cursor` goes before it."""


class VerifyAsked(Asked, frozen=True, kw_only=True):
    """What the trail has to agree with."""

    head: Annotated[str, Meta(pattern="^[0-9]{1,15}:[0-9a-f]{64}$")] | None = None
    """The `head` of an earlier examination."""


class FaultShown(Told, frozen=True, kw_only=True):
    """Something that is not as it was written."""

    number: int
    problem: str


class Verified(Told, frozen=True, kw_only=True):
    """What an examination found; keep `head` elsewhere."""

    is_intact: bool
    records: int
    head: str
    faults: list[FaultShown]
    pruned: int
    """So many of the first ones were taken away, as the retention of the trail says."""


class AuditRoom:
    """The endpoints, with the trail that they are about."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def list_records(self, call: Call) -> Answer:
        """Records of the trail, the newest first. A page may hold fewer than were asked for, and still have a next."""
        asked = read_query(call, RecordsAsked)
        since = None if asked.since is None else _read_moment(asked.since)
        wanted = Wanted(who=asked.who, action=asked.action, target=asked.target, since=since)
        before = asked.before if asked.cursor is None else read_cursor("audit", asked.cursor, int)
        found, following = await self._audit.search(wanted, limit=asked.limit, before=before)
        cursor = None if following is None else write_cursor("audit", following)
        return Answer.json(Page(items=[_show(each) for each in found], next_cursor=cursor))

    async def verify_records(self, call: Call) -> Answer:
        """Read the whole trail, and say what is not as it was written."""
        asked = read_query(call, VerifyAsked)
        found = await self._audit.verify(expected=asked.head)
        faults = [FaultShown(number=each.number, problem=each.problem) for each in found.faults]
        return Answer.json(
            Verified(
                is_intact=not faults, records=found.records, head=found.head, faults=faults, pruned=found.pruned
            )
        )  # fmt: skip

    def operations(self) -> tuple[Operation, ...]:
        """All of them."""
        return (
            Operation(
                method="GET", path="/audit", right=Right.ADMIN, scope="store", handle=self.list_records,
                query=RecordsAsked, gives=Page[RecordShown],
            ),
            Operation(
                method="GET", path="/audit/verify", right=Right.ADMIN, scope="store", handle=self.verify_records,
                query=VerifyAsked, gives=Verified,
            ),
        )  # fmt: skip


def _read_moment(given: datetime) -> int:
    if given.tzinfo is None:
        raise InvalidRequestError("`since` has no time zone", hint="as in 2026-01-01T12:00:00Z", field="since")
    return round(given.timestamp() * 1000)


def _show(record: Record) -> RecordShown:
    return RecordShown(
        number=record.number,
        at=moment(record.at),
        actor=record.actor,
        name=record.name,
        address=record.address,
        action=record.action,
        target=record.target,
        via=record.via,
        result=record.result,
        before=record.before,
        after=record.after,
        count=record.count,
        request_id=record.request_id,
        hash=record.hash,
    )
