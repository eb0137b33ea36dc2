"""Event subscriptions over Cloudflare's wire, of a real account or of another conveyor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec

from conveyor.remote.client import Client
from conveyor.remote.directory import Directory
from conveyor.remote.wire import read_moment
from conveyor.subscriptions import Subscription

PAGE_ROWS: Final = 100
_PATH: Final = "/event_subscriptions/subscriptions"


class _Destination(msgspec.Struct, frozen=True):
    queue_id: str


class _Row(msgspec.Struct, frozen=True):
    """As the wire shows one."""

    id: str
    name: str
    enabled: bool
    source: dict[str, str]
    destination: _Destination
    events: list[str]
    created_at: str
    modified_at: str


class OwnSubscriptions:
    """Those of the queues of one account."""

    def __init__(self, client: Client, directory: Directory) -> None:
        self._client = client
        self._directory = directory

    async def list(self, queue: str) -> list[Subscription]:
        """Those to one queue, the oldest first. `QueueNotFoundError`."""
        wanted = (await self._directory.find(queue)).row.queue_id
        found: list[Subscription] = []
        while True:
            page = str(1 + len(found) // PAGE_ROWS)
            query = {"queue_id": wanted, "page": page, "per_page": str(PAGE_ROWS)}
            rows: list[_Row] = await self._client.call("GET", _PATH, list[_Row], query=query)
            found += [_read(each, queue) for each in rows]
            if len(rows) < PAGE_ROWS:
                return found

    async def create(
        self, queue: str, *, source: Mapping[str, str], events: Sequence[str], name: str | None, enabled: bool
    ) -> Subscription:
        known = await self._directory.find(queue)
        body = {
            "name": name or queue,
            "enabled": enabled,
            "source": source,
            "destination": {"type": "queues.queue", "queue_id": known.row.queue_id},
            "events": events,
        }
        row: _Row = await self._client.call("POST", _PATH, _Row, body=body, is_repeatable=False)
        return _read(row, queue)

    async def update(
        self, queue: str, subscription: str, *, name: str | None, enabled: bool | None, events: Sequence[str] | None
    ) -> Subscription:
        given: dict[str, Any] = {"name": name, "enabled": enabled, "events": events}
        body = {name: value for name, value in given.items() if value is not None}
        row: _Row = await self._client.call("PATCH", _one(subscription), _Row, body=body)
        return _read(row, queue)

    async def delete(self, subscription: str) -> None:
        await self._client.call("DELETE", _one(subscription), Any)


def _one(subscription: str) -> str:
    return f"{_PATH}/{quote(subscription, safe='')}"


def _read(row: _Row, queue: str) -> Subscription:
    return Subscription(
        id=row.id,
        name=row.name,
        enabled=row.enabled,
        source=row.source,
        queue_id=row.destination.queue_id,
        queue=queue,
        events=row.events,
        created_at=read_moment(row.created_at),
        modified_at=read_moment(row.modified_at),
    )
