"""Event subscriptions: which queues want to hear of what. The server tells them (`server.cloudflare.subscriptions`)."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Container, Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from conveyor.model.errors import ConflictError, InvalidSettingError, NotFoundError, VersionConflictError
from conveyor.queue.admin import Queues
from conveyor.store.protocol import Store
from conveyor.store.records import QueueInfo

KIND: Final = "event_subscription"
SUBSCRIPTIONS_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 256
UNKNOWN: Final = "No subscription with this ID"

EVENTS: Final[Mapping[str, frozenset[str] | None]] = {
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


class Subscriptions:
    """Those of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self, *, queue: str | None = None) -> list[Subscription]:
        """The oldest first."""
        found = await self._store.list_documents(KIND, limit=SUBSCRIPTIONS_MAX)
        read = [msgspec.json.decode(each.body, type=Subscription) for each in found]
        wanted = [each for each in read if queue in (None, each.queue)]
        return sorted(wanted, key=lambda each: (each.created_at, each.id))

    async def get(self, subscription: str) -> Subscription:
        """`NotFoundError`."""
        return (await self._find(subscription))[0]

    async def create(
        self, queue: str, queue_id: str, *, source: dict[str, str], events: Sequence[str], name: str | None = None,
        enabled: bool = True,
    ) -> Subscription:  # fmt: skip
        """`InvalidSettingError`; `ConflictError` if the queue hears of this source already."""
        wanted = _read_events(source, events)
        present = await self.list()
        if _hears(present, source, queue_id):
            raise _taken(source, queue)
        if len(present) >= SUBSCRIPTIONS_MAX:
            problem, hint = f"there are {SUBSCRIPTIONS_MAX:,} already", "delete some"
            raise InvalidSettingError("subscriptions", len(present), problem, hint=hint)
        now = self._store.clock.now_ms()
        made = Subscription(
            id=_id_of(source, queue_id, {each.id for each in present}),
            name=_read_name(name or queue),
            enabled=enabled,
            source=source,
            queue_id=queue_id,
            queue=queue,
            events=wanted,
            created_at=now,
            modified_at=now,
        )
        try:
            await self._store.put_document(KIND, made.id, msgspec.json.encode(made), version=0)
        except VersionConflictError:
            raise _taken(source, queue) from None
        if not await self._is_alone(made):
            await self._store.delete_document(KIND, made.id)
            raise _taken(source, queue)
        return made

    async def update(
        self, subscription: str, *, name: str | None = None, enabled: bool | None = None,
        events: Sequence[str] | None = None, to: tuple[str, str] | None = None,
    ) -> Subscription:  # fmt: skip
        """What is said changes, the rest stays; `to` is another queue and its id. `NotFoundError`,
        `InvalidSettingError`, `VersionConflictError`; `ConflictError` if that queue hears of this source already."""
        present, version = await self._find(subscription)
        queue, queue_id = to or (present.queue, present.queue_id)
        if queue_id != present.queue_id and _hears(await self.list(), present.source, queue_id):
            raise _taken(present.source, queue)
        changed = replace(
            present,
            name=present.name if name is None else _read_name(name),
            enabled=present.enabled if enabled is None else enabled,
            events=present.events if events is None else _read_events(present.source, events),
            queue=queue,
            queue_id=queue_id,
            modified_at=self._store.clock.now_ms(),
        )
        kept = await self._store.put_document(KIND, present.id, msgspec.json.encode(changed), version=version)
        if queue_id != present.queue_id and not await self._is_alone(changed):
            await self._store.put_document(KIND, present.id, msgspec.json.encode(present), version=kept.version)
            raise _taken(present.source, queue)
        return changed

    async def follow(self, queue: str, new: str) -> None:
        """The queue has another name; its id is the same."""
        for each in await self.list(queue=queue):
            with contextlib.suppress(NotFoundError, VersionConflictError):  # who changes it now has the last word
                await self.update(each.id, to=(new, each.queue_id))

    async def delete(self, subscription: str) -> Subscription:
        """What it was. `NotFoundError`."""
        present, _ = await self._find(subscription)
        await self._store.delete_document(KIND, present.id)
        return present

    async def _is_alone(self, written: Subscription) -> bool:
        """Of two that came to one queue at once at least one sees the other, and goes."""
        others = [each for each in await self.list() if each.id != written.id]
        return not _hears(others, written.source, written.queue_id)

    async def _find(self, subscription: str) -> tuple[Subscription, int]:
        """And its version."""
        found = await self._store.get_document(KIND, subscription)
        if found is None:
            raise NotFoundError(UNKNOWN)
        return msgspec.json.decode(found.body, type=Subscription), found.version


def _hears(present: Sequence[Subscription], source: Mapping[str, str], queue_id: str) -> bool:
    return any(each.source == source and each.queue_id == queue_id for each in present)


def _taken(source: Mapping[str, str], queue: str) -> ConflictError:
    return ConflictError(f"Source '{source['type']}' and queue '{queue}' do not support multiple subscriptions")


def _id_of(source: Mapping[str, str], queue_id: str, present: Container[str]) -> str:
    """The same for all who make it at this moment, so that one of them does; another, if that one has moved on to
    another queue."""
    made = hashlib.sha256(msgspec.json.encode([sorted(source.items()), queue_id])).hexdigest()[:32]
    return secrets.token_hex(16) if made in present else made


def _read_events(source: Mapping[str, str], events: Sequence[str]) -> list[str]:
    """Without the prefix that names the source."""
    kind = source.get("type", "")
    if kind not in EVENTS:
        raise InvalidSettingError("source", kind[:64], "Unrecognized source type", hint=f"known: {', '.join(EVENTS)}")
    if not events:
        raise InvalidSettingError("events", "", "there are none to hear of", hint="as in `namespace.created`")
    bare = [each.removeprefix(f"cf.{kind}.") for each in events]
    known = EVENTS[kind]
    strange = [each for each in bare if known is not None and each not in known]
    if strange:
        hint = f"known: {', '.join(sorted(known or ()))}"
        raise InvalidSettingError("events", ", ".join(strange)[:200], "Unrecognized event types", hint=hint)
    return list(dict.fromkeys(bare))


def _read_name(name: str) -> str:
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise InvalidSettingError("name", name[:64], f"must have 1 to {NAME_CHARS_MAX} signs that can be printed")
    return name


async def rename_queue(store: Store, name: str, new: str, *, version: int | None = None) -> QueueInfo:
    """Give a queue another name, which its subscriptions say from then on as well: they lead to it by its id, so that
    none is lost in between. As `Queues.rename`."""
    info = await Queues(store).rename(name, new, version=version)
    if info.name != name and not store.keeps_others:  # whoever keeps the others' queues does the rest
        await Subscriptions(store).follow(name, info.name)
    return info
