"""Queues by their ids on Cloudflare's wire, which are made of a queue's first name and the moment it was created: no
store keeps them. What is known of a queue here is a second old at most."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

import msgspec

from conveyor.model.errors import ConveyorError, QueueNotFoundError
from conveyor.model.settings import ConsumerSettings
from conveyor.server.endpoint import Call
from conveyor.server.rights import Right
from conveyor.store.protocol import Store
from conveyor.store.records import QueueInfo, QueueMetrics

FRESH_S: Final = 1.0
SETTLED_S: Final = 0.1
"""Counters this young are not read again: what went through here since is added to them."""
WAITED_S: Final = 0.25
"""Counters this old are waited for."""
_NOTHING: Final = QueueMetrics(backlog_messages=0, backlog_bytes=0, oldest_ready_at=None, leased=0)


def queue_id(info: QueueInfo) -> str:
    """32 hex digits, the same for the life of a queue, whatever its name."""
    return hashlib.sha256(f"queue\0{info.first_name or info.name}\0{info.created_at}".encode()).hexdigest()[:32]


def consumer_id(info: QueueInfo, consumer: ConsumerSettings) -> str:
    """32 hex digits, the same for as long as this script, or whoever pulls, consumes."""
    text = f"consumer\0{queue_id(info)}\0{consumer.type}\0{consumer.script}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Known:
    """A queue, and what was seen of it last."""

    __slots__ = (
        "_counted_at", "_reading", "added_bytes", "added_messages", "counters", "fresh_until", "id", "info", "name",
    )  # fmt: skip

    def __init__(self, info: QueueInfo, fresh_until: float) -> None:
        self.id = queue_id(info)
        self.info = info
        self.name = info.name
        self.fresh_until = fresh_until
        self.counters = _NOTHING
        self.added_messages = 0
        self.added_bytes = 0
        self._counted_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    def add(self, messages: int, body_bytes: int) -> None:
        """What went in, or out, through here."""
        self.added_messages += messages
        self.added_bytes += body_bytes

    def is_counted(self, now: float) -> bool:
        """Whether the counters are young enough to be told."""
        return now - self._counted_at < SETTLED_S

    async def count(self, store: Store) -> None:
        """Make them so. Callers share one look at the store, and wait only for counters that are old."""
        age = store.clock.monotonic() - self._counted_at
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read(store))
        if age >= WAITED_S:
            await asyncio.shield(self._reading)

    async def _read(self, store: Store) -> None:
        messages, body_bytes = self.added_messages, self.added_bytes
        try:
            self.counters = await store.metrics(self.name)
            self._counted_at = store.clock.monotonic()
            self.added_messages -= messages
            self.added_bytes -= body_bytes
        except ConveyorError:
            self.fresh_until = float("-inf")  # what was asked for is done all the same; the counters stay as they were
        finally:
            self._reading = None

    @property
    def metrics(self) -> QueueMetrics:
        """The backlog, with what went through here since it was read."""
        if not self.added_messages:
            return self.counters
        return msgspec.structs.replace(
            self.counters,
            backlog_messages=max(0, self.counters.backlog_messages + self.added_messages),
            backlog_bytes=max(0, self.counters.backlog_bytes + self.added_bytes),
        )


class Directory:
    """The queues of one server, by id and by name."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}

    async def find(self, call: Call, right: Right) -> Known:
        """The queue that the path names, if the caller has that right there; names are taken for ids too.
        `QueueNotFoundError`, `ForbiddenError`."""
        reference = call.path["queue"]
        known = self.recall(reference, call.store.clock.monotonic()) or await self._look(call.store, reference)
        if known is None:
            call.require(right, reference)  # a token without that right anywhere hears so first
            raise QueueNotFoundError(reference)
        call.require(right, known.name)
        return known

    def recall(self, reference: str, now: float) -> Known | None:
        """What was looked at within the last second."""
        known = self._known.get(reference)
        return known if known is not None and now < known.fresh_until else None

    async def find_id(self, store: Store, wanted: str) -> Known | None:
        """The queue of an id, or None."""
        return await self._look(store, wanted)

    async def list(self, store: Store) -> list[Known]:
        """All of them, by name, as they are now."""
        fresh_until = store.clock.monotonic() + FRESH_S
        found = [self._learn(info, fresh_until) for info in await store.list_queues()]
        live = {each.id for each in found}
        self._known = {key: each for key, each in self._known.items() if each.id in live}
        for each in found:
            self._known[each.id] = each
        return sorted(found, key=lambda each: each.name)

    def note(self, store: Store, info: QueueInfo) -> Known:
        """What a change has just answered."""
        return self._learn(info, store.clock.monotonic() + FRESH_S)

    def forget(self, known: Known) -> None:
        """It is gone, or its state must be looked at anew."""
        for key in (known.id, known.name):
            self._known.pop(key, None)

    async def _look(self, store: Store, reference: str) -> Known | None:
        known = self._known.get(reference)
        if known is not None:
            known.fresh_until = store.clock.monotonic() + WAITED_S  # one of those who ask now looks for all of them
        name = reference if known is None else known.name
        try:
            found = self.note(store, await store.get_queue(name))
        except QueueNotFoundError:
            found = None
        if found is not None and reference in (found.id, found.name):
            self._known[reference] = found
            return found
        if known is not None:
            self.forget(known)
        return {each.id: each for each in await self.list(store)}.get(reference)

    def _learn(self, info: QueueInfo, fresh_until: float) -> Known:
        """Counters stay with the queue they belong to."""
        fresh = Known(info, fresh_until)
        present = self._known.get(fresh.id)
        if present is None:
            self._known[fresh.id] = fresh
            return fresh
        if present.name != info.name and self._known.get(present.name) is present:
            del self._known[present.name]
        present.info, present.name, present.fresh_until = info, info.name, fresh_until
        return present
