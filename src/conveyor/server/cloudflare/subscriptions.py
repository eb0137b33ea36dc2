"""Event subscriptions: kept as they are given; what happens to our own namespaces is sent to the queues that asked."""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from conveyor.model.errors import NotFoundError, QueueFullError
from conveyor.model.ids import IdSource
from conveyor.model.message import Draft
from conveyor.server.cloudflare.dialect import QUEUE_NOT_FOUND, Refusal, moment, succeed
from conveyor.server.cloudflare.directory import Directory, Known
from conveyor.server.cloudflare.paging import read_page
from conveyor.server.endpoint import Answer, Call, Endpoint, Handle
from conveyor.server.rights import Right
from conveyor.store.protocol import Store

KIND: Final = "event_subscription"
PER_PAGE: Final = 20
SUBSCRIPTIONS_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 256

_EVENTS: Final[dict[str, frozenset[str] | None]] = {
    "kv": frozenset({"namespace.created", "namespace.deleted"}),
    "r2": frozenset({"bucket.created", "bucket.deleted"}),
    "workers.script": frozenset(
        f"{what}.{event}"
        for what, events in {
            "worker": ("created", "updated", "deleted"),
            "version": ("created", "deleted"),
            "deployment": ("created", "deleted"),
        }.items()
        for event in events
    ),
    "workersBuilds.worker": frozenset(f"build.{each}" for each in ("started", "failed", "canceled", "succeeded")),
    "workflows.workflow": frozenset(
        f"instance.{each}" for each in ("queued", "started", "paused", "errored", "terminated", "completed")
    ),
    "workersAi.model": frozenset({"batch.queued", "batch.succeeded", "batch.failed"}),
    "vectorize": frozenset({"index.created", "index.deleted"}),
    "superSlurper": None,
    "email.sending": None,
    "artifacts": None,
    "artifacts.repo": None,
    "images": None,
    "browserRun": None,
}
"""By source; None takes any. Only what happens in a conveyor ever comes."""


class Destination(msgspec.Struct, forbid_unknown_fields=True):
    queue_id: str
    type: str = "queues.queue"


class SubscriptionBody(msgspec.Struct, forbid_unknown_fields=True):
    """Of a POST; a PATCH says part of it."""

    name: str | None = None
    enabled: bool | None = None
    source: dict[str, str] | None = None
    destination: Destination | None = None
    events: list[str] | None = None


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """As it is kept. The queue's id follows from its name and the moment it was made."""

    id: str
    name: str
    enabled: bool
    source: dict[str, str]
    queue_id: str
    queue: str
    events: list[str]
    created_at: int
    modified_at: int


class SubscriptionDesk:
    """The endpoints of subscriptions, and the sending of events."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._ids: IdSource | None = None

    def endpoints(self) -> list[Endpoint]:
        all_, one = "/event_subscriptions/subscriptions", "/event_subscriptions/subscriptions/{subscription}"
        return [
            _endpoint("GET", all_, Right.READ, self.list),
            _endpoint("POST", all_, Right.MANAGE, self.create, "subscription.create"),
            _endpoint("GET", one, Right.READ, self.show),
            _endpoint("PATCH", one, Right.MANAGE, self.update, "subscription.update"),
            _endpoint("DELETE", one, Right.MANAGE, self.delete, "subscription.delete"),
        ]

    async def list(self, call: Call) -> Answer:
        queue = call.query.get("queue_id")
        found = [
            each
            for each in await _all(call.store)
            if queue in (None, each.queue_id) and call.caller.may(Right.READ, each.queue)
        ]
        items, info = read_page(call, found, per_page=PER_PAGE)
        return succeed([_show(each) for each in items], info=info)

    async def create(self, call: Call) -> Answer:
        body = call.decode(SubscriptionBody)
        if body.destination is None or body.source is None or not body.events:
            raise Refusal(0, "name, source, destination and events are required")
        known = await self._destination(call, body.destination)
        events = _read_events(body.source, body.events)
        present = await _all(call.store)
        if any(each.source == body.source and each.queue_id == known.id for each in present):
            words = f"Source '{body.source['type']}' and queue '{known.name}' do not support multiple subscriptions"
            raise Refusal(0, words, status=405)
        if len(present) >= SUBSCRIPTIONS_MAX:
            raise Refusal(0, f"there are {SUBSCRIPTIONS_MAX:,} subscriptions already")
        now = call.store.clock.now_ms()
        made = Subscription(
            id=secrets.token_hex(16),
            name=_read_name(body.name or known.name),
            enabled=body.enabled is not False,
            source=body.source,
            queue_id=known.id,
            queue=known.name,
            events=events,
            created_at=now,
            modified_at=now,
        )
        call.target = made.id
        await call.store.put_document(KIND, made.id, msgspec.json.encode(made), version=0)
        return succeed(_show(made))

    async def show(self, call: Call) -> Answer:
        return succeed(_show((await _find(call, Right.READ))[0]))

    async def update(self, call: Call) -> Answer:
        """What is said changes, the rest stays."""
        present, version = await _find(call, Right.MANAGE)
        body = call.decode(SubscriptionBody)
        queue_id, queue = present.queue_id, present.queue
        if body.destination is not None:
            known = await self._destination(call, body.destination)
            queue_id, queue = known.id, known.name
        changed = replace(
            present,
            name=present.name if body.name is None else _read_name(body.name),
            enabled=present.enabled if body.enabled is None else body.enabled,
            events=present.events if body.events is None else _read_events(present.source, body.events),
            queue_id=queue_id,
            queue=queue,
            modified_at=call.store.clock.now_ms(),
        )
        await call.store.put_document(KIND, present.id, msgspec.json.encode(changed), version=version)
        return succeed(_show(changed))

    async def delete(self, call: Call) -> Answer:
        present, _ = await _find(call, Right.MANAGE)
        await call.store.delete_document(KIND, present.id)
        return succeed(_show(present))

    async def announce(self, call: Call, source: str, event: str, payload: dict[str, Any]) -> None:
        """Something happened: send it to the queues that asked. A queue that is gone or full does not hear of it."""
        if self._ids is None:
            self._ids = IdSource(call.store.clock)
        for each in await _all(call.store):
            if not each.enabled or each.source.get("type") != source or event not in each.events:
                continue
            now = datetime.fromtimestamp(call.store.clock.now_ms() / 1000, UTC)
            body = {
                "type": f"cf.{source}.{event}",
                "source": each.source,
                "payload": payload,
                "metadata": {
                    "accountId": call.path["account"],
                    "eventSubscriptionId": each.id,
                    "eventSchemaVersion": 1,
                    "eventTimestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                },
            }
            known = await self._directory.find_id(call.store, each.queue_id)
            if known is not None:
                with contextlib.suppress(NotFoundError, QueueFullError):
                    draft = Draft(id=self._ids.new(), queue=known.name, body=msgspec.json.encode(body))
                    await call.store.append([draft])

    async def _destination(self, call: Call, destination: Destination) -> Known:
        if destination.type != "queues.queue":
            raise Refusal(0, f"Unrecognized destination type '{destination.type[:64]}'")
        known = await self._directory.find_id(call.store, destination.queue_id)
        if known is None or not call.caller.may(Right.MANAGE, known.name):
            words = f"Queue '{destination.queue_id[:64]}' not found. Please verify it exists and try again."
            raise Refusal(QUEUE_NOT_FOUND, words, status=404)
        return known


async def _all(store: Store) -> list[Subscription]:
    """The oldest first."""
    found = await store.list_documents(KIND, limit=SUBSCRIPTIONS_MAX)
    read = [msgspec.json.decode(each.body, type=Subscription) for each in found]
    return sorted(read, key=lambda each: (each.created_at, each.id))


async def _find(call: Call, right: Right) -> tuple[Subscription, int]:
    """And its version."""
    found = await call.store.get_document(KIND, call.path["subscription"])
    if found is not None:
        read = msgspec.json.decode(found.body, type=Subscription)
        if call.caller.may(right, read.queue):
            return read, found.version
    raise Refusal(0, "No subscription with this ID", status=404)


def _read_events(source: dict[str, str], events: list[str]) -> list[str]:
    """Without the prefix that names the source."""
    kind = source.get("type", "")
    if kind not in _EVENTS:
        raise Refusal(0, f"Unrecognized source type '{kind[:64]}'")
    bare = [each.removeprefix(f"cf.{kind}.") for each in events]
    known = _EVENTS[kind]
    strange = [each for each in bare if known is not None and each not in known]
    if strange:
        raise Refusal(0, f"Unrecognized event types: {', '.join(strange)[:200]}")
    return list(dict.fromkeys(bare))


def _read_name(name: str) -> str:
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise Refusal(0, f"a subscription's name has 1 to {NAME_CHARS_MAX} signs that can be printed")
    return name


def _show(each: Subscription) -> dict[str, Any]:
    return {
        "id": each.id,
        "created_at": moment(each.created_at),
        "modified_at": moment(each.modified_at),
        "name": each.name,
        "enabled": each.enabled,
        "source": each.source,
        "destination": {"type": "queues.queue", "queue_id": each.queue_id},
        "events": each.events,
    }


def _endpoint(method: str, path: str, right: Right, handle: Handle, action: str | None = None) -> Endpoint:
    return Endpoint(method=method, path=path, right=right, handle=handle, action=action, content_types=())
