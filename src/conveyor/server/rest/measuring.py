"""Tells the hub what changes in the queues, wherever it was changed: their counters are looked at once a second while
somebody listens."""

from __future__ import annotations

from typing import ClassVar, Final

from conveyor.model.errors import QueueNotFoundError
from conveyor.model.events import Emit, Event
from conveyor.store.protocol import Store


KNOWN_MAX: Final = 1_000


class QueueMeasured(Event, frozen=True, kw_only=True):
    """A queue's counters or settings are not what they were a second ago."""

    name: ClassVar[str] = "conveyor.queue.measured"
    queue: str
    backlog_messages: int
    backlog_bytes: int
    leased: int
    oldest_ready_at: int | None
    paused: bool
    version: int


class QueueDeleted(Event, frozen=True, kw_only=True):
    """A queue is gone."""

    name: ClassVar[str] = "conveyor.queue.deleted"
    queue: str


class Measuring:
    """Remembers how each queue was when it was last looked at."""

    def __init__(self, store: Store, emit: Emit) -> None:
        self._store = store
        self._emit = emit
        self._known: dict[str, QueueMeasured] = {}

    @property
    def known(self) -> list[QueueMeasured]:
        """How the queues were at the last look, for those who come later; of the first `KNOWN_MAX`. Where nobody has
        listened for a while, the next look puts it right."""
        return list(self._known.values())[:KNOWN_MAX]

    async def look(self) -> None:
        """`StoreError`."""
        present: dict[str, QueueMeasured] = {}
        for info in await self._store.list_queues():
            try:
                metrics = await self._store.metrics(info.name)
            except QueueNotFoundError:  # gone since it was listed
                continue
            present[info.name] = QueueMeasured(
                queue=info.name,
                backlog_messages=metrics.backlog_messages,
                backlog_bytes=metrics.backlog_bytes,
                leased=metrics.leased,
                oldest_ready_at=metrics.oldest_ready_at,
                paused=info.paused,
                version=info.version,
            )
        for name, measured in present.items():
            if self._known.get(name) != measured:
                self._emit(measured)
        for name in self._known.keys() - present.keys():
            self._emit(QueueDeleted(queue=name))
        self._known = present
