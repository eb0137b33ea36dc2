"""A line from those who send to a queue to its consumer in the same process: when a send is leased with its message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from conveyor.model.dispatch import Dispatch
from conveyor.model.ids import IdSource
from conveyor.model.message import Draft
from conveyor.model.settings import ConsumerSettings
from conveyor.queue.immediate import Line
from conveyor.store.memory import MemoryStore
from conveyor.store.records import Claimed, OwnerInfo
from conveyor.testing.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Consumer:
    """With room for two calls."""

    def __init__(self) -> None:
        self.queue = "inbox"
        self.settings = ConsumerSettings(script="shop", dispatch=Dispatch.IMMEDIATE, max_batch_size=1)
        self.claiming = asyncio.Lock()
        self.asked = 0
        self.batch_size = 1
        self.spare_calls = 2
        self.begun: list[bytes] = []

    def begin(self, claimed: Claimed, size: int) -> None:
        self.begun += [each.body for each in claimed.leases]

    def flush_verdicts(self) -> None:
        """There are none."""

    def doubt(self) -> None:
        raise AssertionError("the store has answered")


class Bench:
    """A consumer and its line, over a store in memory."""

    def __init__(self, store: MemoryStore, owner: int) -> None:
        self.consumer = Consumer()
        self.line = Line(store, owner, self.consumer)
        self._ids = IdSource(store.clock)

    async def send(self, *bodies: bytes, delay_ms: int | None = None) -> None:
        await self.line.send([Draft(id=self._ids.new(), queue="inbox", body=each, delay_ms=delay_ms) for each in bodies])


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    store = MemoryStore(clock=ManualClock())
    await store.open()
    await store.declare_consumer("inbox", Consumer().settings)
    owner = await store.register_owner(OwnerInfo(app="shop", host=store.host, pid=1, supervisor_pid=1))
    yield Bench(store, owner)
    await store.close()


async def test_what_can_start_is_leased_with_its_send(bench: Bench) -> None:
    await bench.send(b"1")
    assert bench.consumer.begun == [b"1"]


async def test_a_send_that_is_delayed_takes_nothing_that_waits(bench: Bench) -> None:
    bench.consumer.spare_calls = 0
    await bench.send(b"1")
    bench.consumer.spare_calls = 2
    await bench.send(b"2", delay_ms=60_000)
    assert bench.consumer.begun == []


async def test_while_it_rests_and_once_it_is_closed_a_send_is_an_ordinary_one(bench: Bench) -> None:
    async with bench.line.at_rest():
        await bench.send(b"1")
        bench.consumer.asked = 2  # a claim takes the room: a line that rests does not wait for it, it may be its own
        async with bench.consumer.claiming:
            sending = asyncio.create_task(bench.send(b"2"))
            for _ in range(20):
                await asyncio.sleep(0)
            assert sending.done()
        bench.consumer.asked = 0
    assert bench.consumer.begun == []
    await bench.line.close()
    await bench.send(b"3")
    assert bench.consumer.begun == []
