"""A workshop: a memory store on a manual clock, and workers whose end a test awaits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest

from conveyor.model.events import Event
from conveyor.model.ids import IdSource
from conveyor.model.message import Peeked
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.queue.board import Board
from conveyor.queue.frames import Isolation
from conveyor.queue.handler import Handler, read_handler
from conveyor.queue.immediate import Here
from conveyor.queue.producer import Queue
from conveyor.queue.worker import Stop, Worker
from conveyor.store.memory import MemoryStore
from conveyor.store.protocol import Store
from conveyor.store.records import OwnerInfo
from conveyor.testing.clock import ManualClock

PATIENCE_S = 60.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Workshop:
    """A store, and everything around it that a test of workers needs."""

    def __init__(self, store: MemoryStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.events: list[Event] = []
        self.board = Board.create(4096)
        self.stuck: list[frozenset[int]] = []
        self._ids = IdSource(clock)
        self._running: list[tuple[Worker, asyncio.Task[None]]] = []

    async def declare(self, function: Callable[[Any], Any], queue: str = "q", **settings: Any) -> Handler:
        """A handler of this function, whose queue and consumer are in the store."""
        run_in = settings.pop("run_in", None)
        consumer = ConsumerSettings(script="shop", **{"dead_letter_queue": f"{queue}-dlq", **settings})
        await self.store.declare_consumer(queue, consumer)
        return read_handler(queue, function, consumer, run_in=run_in)

    async def start(self, *handlers: Handler, store: Store | None = None, **options: Any) -> Worker:
        """A worker of a new owner, at work."""
        owner = await self.store.register_owner(OwnerInfo(app="shop", host="here", pid=1, supervisor_pid=1))
        isolation: Isolation | None = options.pop("isolation", None)
        worker = Worker(
            store or self.store,
            owner,
            handlers,
            board=self.board,
            emit=self.events.append,
            random=Random(1),
            isolation=isolation,
            on_stuck=self.stuck.append,
            **options,
        )
        self._running.append((worker, asyncio.create_task(worker.run())))
        return worker

    async def ended(self, worker: Worker) -> None:
        """Until its `run` is over."""
        async with asyncio.timeout(PATIENCE_S):
            for known, task in self._running:
                if known is worker:
                    await asyncio.shield(task)

    def owner_info(self) -> OwnerInfo:
        return OwnerInfo(app="shop", host="here", pid=2, supervisor_pid=1)

    async def stop(self, worker: Worker, how: Stop = Stop.GRACEFULLY) -> None:
        worker.stop(how)
        await self.ended(worker)

    def queue(self, name: str = "q", *, here: Here | None = None) -> Queue:
        async def lookup(name: str) -> QueueSettings:
            return (await self.store.get_queue(name)).settings

        return Queue(self.store, self._ids, lookup, name, here)

    async def peek(self, name: str = "q") -> list[Peeked]:
        return await self.store.peek(name, limit=1000)

    async def backlog(self, name: str = "q") -> int:
        return (await self.store.metrics(name)).backlog_messages

    async def until_empty(self, *names: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            for name in names or ("q",):
                while await self.backlog(name):
                    await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the loop run until it is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0)

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    async def close(self) -> None:
        for worker, task in self._running:
            worker.stop(Stop.NOW)
            while not task.done():
                await self.clock.advance(0.1)
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def workshop(clock: ManualClock) -> AsyncIterator[Workshop]:
    store = MemoryStore(clock)
    await store.open()
    workshop = Workshop(store, clock)
    yield workshop
    await workshop.close()
    await store.close()
