"""The audit trail: who changed what, and whether anybody has meddled with it since."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from conveyor.audit.trail import Audit, Record
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import cut_page, read_cursor
from conveyor.server.rest.shapes import Asked, Moment, Page, PageAsked, Told, moment
from conveyor.server.rights import Right


class RecordShown(Told, frozen=True, kw_only=True):
    """One line of the trail."""

    number: int
    at: Moment
    actor: str
    """The id of a token, `environment`, or `cli`."""
    name: str
    address: str
    action: str
    target: str
    result: str
    """`ok`, or the code of an error."""
    request_id: str
    hash: str


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


class AuditRoom:
    """The endpoints, with the trail that they are about."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def list_records(self, call: Call) -> Answer:
        """Records of the trail, the newest first."""
        asked = read_query(call, PageAsked)
        before = read_cursor("audit", asked.cursor, int)
        found = await self._audit.list(limit=asked.limit + 1, before=before)
        page = cut_page("audit", found, asked.limit, lambda record: record.number)
        return Answer.json(Page(items=[_show(each) for each in page.items], next_cursor=page.next_cursor))

    async def verify_records(self, call: Call) -> Answer:
        """Read the whole trail, and say what is not as it was written."""
        asked = read_query(call, VerifyAsked)
        found = await self._audit.verify(expected=asked.head)
        faults = [FaultShown(number=each.number, problem=each.problem) for each in found.faults]
        return Answer.json(Verified(is_intact=not faults, records=found.records, head=found.head, faults=faults))

    def operations(self) -> tuple[Operation, ...]:
        """All of them."""
        return (
            Operation(
                method="GET", path="/audit", right=Right.ADMIN, scope="store", handle=self.list_records,
                query=PageAsked, gives=Page[RecordShown],
            ),
            Operation(
                method="GET", path="/audit/verify", right=Right.ADMIN, scope="store", handle=self.verify_records,
                query=VerifyAsked, gives=Verified,
            ),
        )  # fmt: skip


def _show(record: Record) -> RecordShown:
    return RecordShown(
        number=record.number,
        at=moment(record.at),
        actor=record.actor,
        name=record.name,
        address=record.address,
        action=record.action,
        target=record.target,
        result=record.result,
        request_id=record.request_id,
        hash=record.hash,
    )
