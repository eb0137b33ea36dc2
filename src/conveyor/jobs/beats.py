"""Attempts that run for longer than a second say so in the store, and hear whether somebody wants them to end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, Final, Protocol, TypeVar

from conveyor.jobs.context import JobContext
from conveyor.jobs.declared import Declared
from conveyor.model.clock import Clock
from conveyor.model.errors import ConveyorError
from conveyor.model.ids import MessageId
from conveyor.model.job import RECORD_MS, JobRecord, JobState
from conveyor.queue.handler import RunIn
from conveyor.queue.sealing import Sealer
from conveyor.store.protocol import Store

T = TypeVar("T")

BEAT_S: Final = 1.0
KILLED: Final = 70
"""The exit status of a child whose job was cancelled."""


class Home(Protocol):
    """What the jobs need of their app."""

    name: str

    @property
    def store(self) -> Store: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...

    @property
    def sealer(self) -> Sealer: ...

    async def ensure_open(self) -> None: ...

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T: ...


class Attempt:
    """A call of a job's function, on its way."""

    __slots__ = ("context", "declared", "enqueued_at", "id", "is_told", "started_at", "task")

    def __init__(
        self, declared: Declared, context: JobContext, id: MessageId, enqueued_at: int, task: asyncio.Task[Any] | None
    ) -> None:
        self.declared = declared
        self.context = context
        self.id = id
        self.enqueued_at = enqueued_at
        self.started_at = context.started_at_ms
        self.task = task
        self.is_told = False
        """It was told to end."""

    def record(self) -> JobRecord:
        return JobRecord(
            id=self.id, name=self.declared.name, queue=self.declared.queue, state=JobState.RUNNING,
            enqueued_at=self.enqueued_at, started_at=self.started_at, ended_at=None, attempts=self.context.attempt,
            worker=self.context.worker, expires_at=self.started_at + RECORD_MS,
        )  # fmt: skip

    def end(self) -> None:
        """Cut it short, as far as that can be done."""
        if self.is_told:
            return
        self.is_told = self.context.is_told = True
        if self.task is not None:
            self.task.cancel()
        elif self.declared.run_in is RunIn.PROCESS:
            os._exit(KILLED)  # a child of its own: the store knows that this was wanted


class Beats:
    """The attempts that run in this process."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._running: dict[MessageId, Attempt] = {}
        self._beating: asyncio.Task[None] | None = None

    def begin(self, attempt: Attempt) -> None:
        """From whatever thread its function runs in."""
        self._running[attempt.id] = attempt
        if self._beating is not None or (loop := self._home.loop) is None:
            return
        if attempt.task is not None:
            self._start()
        else:
            loop.call_soon_threadsafe(self._start)

    def end(self, attempt: Attempt) -> None:
        self._running.pop(attempt.id, None)

    def close(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None

    def _start(self) -> None:
        if self._beating is None or self._beating.done():
            self._beating = asyncio.get_running_loop().create_task(self._beat_while_any())

    async def _beat_while_any(self) -> None:
        clock = self._home.store.clock
        while True:
            await clock.sleep(BEAT_S)
            if not self._running:
                self._beating = None
                return
            await self._beat(clock)

    async def _beat(self, clock: Clock) -> None:
        before = clock.now_ms() - BEAT_S * 1000
        long = [each for each in list(self._running.values()) if each.started_at <= before]
        for queue in {each.declared.queue for each in long}:
            here = [each for each in long if each.declared.queue == queue]
            try:
                wanted = await self._home.store.at(queue).jobs.beat([each.record() for each in here])
            except ConveyorError:  # the next beat says it again
                continue
            for each in here:
                if each.id in wanted and self._running.get(each.id) is each:
                    each.end()
