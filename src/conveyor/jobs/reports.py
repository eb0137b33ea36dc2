"""Writes down what running jobs say: all of this process's together, ten times a second while any of them speaks, and
what an attempt has said before its verdict goes into the store. A job that says nothing costs nothing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

from conveyor.jobs.voice import Voice
from conveyor.model.errors import ConveyorError
from conveyor.model.job import RECORD_MS, JobRecord, JobState
from conveyor.queue.delivery import Message
from conveyor.store.protocol import Store

FLUSH_S: Final = 0.1
RETRY_S: Final = 0.2
FINISH_S: Final = 3.0
"""What the store refuses for so long after an attempt has ended is lost, rather than its verdict held up."""


class Home(Protocol):
    """What the reports need of their app."""

    @property
    def store(self) -> Store: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...


class Reports:
    """The voices of a process's attempts."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.close()

    def close(self) -> None:
        """The app is about to close; it may be opened again, in another loop."""
        for task in (*getattr(self, "_writes", ()), *filter(None, [getattr(self, "_flushing", None)])):
            task.cancel()
        self._loud: dict[Voice, None] = {}
        self._turn = asyncio.Lock()
        self._flushing: asyncio.Task[None] | None = None
        self._next: asyncio.Task[bool] | None = None
        self._writes: set[asyncio.Task[bool]] = set()

    def voice_of(self, name: str, message: Message[Any], started_at: int, worker: str) -> Voice | None:
        """None: no worker delivered the message."""
        lease, fence = message._lease, message._fence  # noqa: SLF001  # as a runner knows them
        if fence is None:
            return None
        record = JobRecord(
            id=lease.id, name=name, queue=lease.queue, state=JobState.RUNNING, enqueued_at=lease.sent_at,
            started_at=started_at, ended_at=None, attempts=lease.attempts, worker=worker,
            expires_at=started_at + RECORD_MS,
        )  # fmt: skip
        return Voice(record, lease, fence.owner, self._home.store.at(lease.queue).clock.now_ms, self._hear)

    def _hear(self, voice: Voice) -> None:
        """From whatever thread it speaks in."""
        loop = self._home.loop
        if loop is None:
            return
        if asyncio._get_running_loop() is loop:
            self._plan(voice)
        else:
            with contextlib.suppress(RuntimeError):  # it was closed over the thread's head
                loop.call_soon_threadsafe(self._plan, voice)

    def _plan(self, voice: Voice) -> None:
        self._loud[voice] = None
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush_while_loud())

    async def _flush_while_loud(self) -> None:
        clock = self._home.store.clock
        while self._loud:
            await clock.sleep(FLUSH_S)
            await self._write_soon()

    async def finish(self, voice: Voice) -> None:
        """Its attempt is over: all that it said is written before this returns, if the store lets us."""
        clock = self._home.store.clock
        until = clock.monotonic() + FINISH_S
        while not voice.is_settled and clock.monotonic() < until:
            self._loud[voice] = None
            if not await asyncio.shield(self._write_soon()):
                await clock.sleep(RETRY_S)
        voice.close()
        self._loud.pop(voice, None)

    def finish_from_thread(self, voice: Voice) -> None:
        """The same, from a thread of the app's."""
        loop = self._home.loop
        if loop is None:
            return
        with contextlib.suppress(RuntimeError, concurrent.futures.CancelledError, TimeoutError):
            asyncio.run_coroutine_threadsafe(self.finish(voice), loop).result(2 * FINISH_S)

    def _write_soon(self) -> asyncio.Task[bool]:
        """The next write, for all who wait for one: it begins when the present one is over."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._write())
            self._writes.add(self._next)
            self._next.add_done_callback(self._writes.discard)
        return self._next

    async def _write(self) -> bool:
        async with self._turn:
            self._next = None
            loud, self._loud = self._loud, {}
            places: dict[tuple[Store, int], list[Voice]] = {}
            for voice in loud:
                places.setdefault((self._home.store.at(voice.record.queue), voice.owner), []).append(voice)
            done = [await self._write_to(store, owner, voices) for (store, owner), voices in places.items()]
            return all(done)

    async def _write_to(self, store: Store, owner: int, voices: Sequence[Voice]) -> bool:
        taken = [(voice, report) for voice in voices if (report := voice.take()) is not None]
        if not taken:
            return True
        try:
            lost = await store.reports.write(owner, [report for _, report in taken])
        except ConveyorError:
            for voice, _ in taken:
                voice.give_back()
                self._plan(voice)
            return False
        for voice, _ in taken:
            voice.written()
            if voice.record.id in lost:
                voice.close()
        return True
