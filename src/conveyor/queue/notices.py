"""Tells the servers of other processes what happens in this one: its events go into the store's ring of notices, from
which each server tells its listeners. Nothing is emitted for a message that goes well, so that one costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import ClassVar, Final

import msgspec

from conveyor.model.errors import ConveyorError
from conveyor.model.events import Emit, Event
from conveyor.store.notices import Notice
from conveyor.store.protocol import Store

ANNOUNCE_S: Final = 1.0
ANNOUNCED_MAX: Final = 50
"""At once; what is more is counted."""
CLOSE_S: Final = 1.0


class NoticesDropped(Event, frozen=True, kw_only=True):
    """A process had more to tell in a second than it may; its own log has them all."""

    name: ClassVar[str] = "conveyor.notices.dropped"
    origin: str
    events: int


def origin_of(store: Store) -> str:
    """This process."""
    return f"{store.host}:{os.getpid()}"


class Announcer:
    """Of one process. `emit` may be called on any thread, and never raises."""

    def __init__(self, store: Store, emit: Emit) -> None:
        self._store = store
        self._emit = emit
        self._origin = origin_of(store)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Notice] = []
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def emit(self, event: Event) -> None:
        self._emit(event)
        if not self._is_closed:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                self._loop.call_soon_threadsafe(self._add, event)

    def _add(self, event: Event) -> None:
        if len(self._waiting) >= ANNOUNCED_MAX:
            self._dropped += 1
            return
        self._waiting.append(self._notice(event))
        if self._task is None and not self._is_closed:
            self._task = self._loop.create_task(self._announce_while_any())

    def _notice(self, event: Event) -> Notice:
        body = msgspec.json.encode(msgspec.structs.asdict(event), enc_hook=str)
        return Notice(origin=self._origin, at=self._store.clock.now_ms(), name=event.name, body=body)

    async def _announce_while_any(self) -> None:
        while self._waiting:
            await self._announce()
            await self._store.clock.sleep(ANNOUNCE_S)  # after the first one, so that a single event is told at once
        self._task = None

    async def _announce(self) -> None:
        told, self._waiting = self._waiting, []
        if self._dropped:
            told.append(self._notice(NoticesDropped(origin=self._origin, events=self._dropped)))
            self._dropped = 0
        with contextlib.suppress(ConveyorError):  # the log has them; nobody listens to a store that is away
            await self._store.notices.add(told)

    async def close(self) -> None:
        """What waits is told, if the store takes it soon."""
        await self._store.clock.sleep(0)  # what was emitted a moment ago is added first
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._announce()
