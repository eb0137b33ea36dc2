"""The audit trail of another conveyor, over its own API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from conveyor.audit.trail import Examined, Fault, Record, Wanted
from conveyor.remote.client import Client
from conveyor.remote.wire import Page, read_moment

PAGE_ROWS: Final = 1_000


class _Record(msgspec.Struct, frozen=True):
    """As the API shows one."""

    number: int
    at: str
    actor: str
    name: str
    address: str
    action: str
    target: str
    result: str
    hash: str
    request_id: str = ""
    via: str = ""
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    count: int | None = None


class OwnTrail:
    """Read only; the other side writes it, of what is asked for here too."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def search(self, wanted: Wanted, *, limit: int, before: int | None = None) -> list[Record]:
        """The newest `limit` records that fit, from the one before number `before` on."""
        query = {"who": wanted.who, "action": wanted.action, "target": wanted.target}
        asked = {name: value for name, value in query.items() if value is not None}
        if wanted.since is not None:
            asked["since"] = datetime.fromtimestamp(wanted.since / 1000, UTC).isoformat()
        if before is not None:
            asked["before"] = str(before)
        found: list[Record] = []
        while len(found) < limit:
            page: Page[_Record]
            asked["limit"] = str(min(PAGE_ROWS, limit - len(found)))
            page, _ = await self._client.call_ours("GET", "/audit", Page[_Record], query=asked)
            found += map(_read, page.items)
            if page.next_cursor is None:
                break
            asked["cursor"] = page.next_cursor
        return found

    async def verify(self, *, expected: str | None = None) -> Examined:
        """As `Audit.verify`, by the server itself, with its pepper."""
        query = {} if expected is None else {"head": expected}
        shown: _Verified
        shown, _ = await self._client.call_ours("GET", "/audit/verify", _Verified, query=query)
        return Examined(records=shown.records, head=shown.head, faults=shown.faults, pruned=shown.pruned)


class _Verified(msgspec.Struct, frozen=True):
    """As the API shows one."""

    records: int
    head: str
    faults: list[Fault]
    pruned: int = 0


def _read(shown: _Record) -> Record:
    return Record(
        at=read_moment(shown.at),
        actor=shown.actor,
        name=shown.name,
        address=shown.address,
        action=shown.action,
        target=shown.target,
        result=shown.result,
        request_id=shown.request_id,
        via=shown.via,
        before=shown.before,
        after=shown.after,
        count=shown.count,
        hash=shown.hash,
        number=shown.number,
    )
