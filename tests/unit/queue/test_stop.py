"""A worker ends in good order: what has not begun is given back, what has may finish, and none of it is a failure."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from conveyor.model.errors import StoreBusyError, StoreFullError
from conveyor.model.events import ClaimFailed, LeaseLost, MessageFailed, SettleFailed, WorkerStopped
from conveyor.queue.delivery import Message
from conveyor.queue.dispatch import Interruption
from conveyor.queue.worker import Stop
from conveyor.store.memory import MemoryStore
from conveyor.store.records import Claimed, ClaimRequest, Ending, Evidence, Settled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from conveyor.model.verdict import Settlement
    from unit.queue.conftest import Workshop

pytestmark = pytest.mark.anyio


class Slow:
    """A handler that waits at a gate, and knows who came through."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun: list[int] = []
        self.done: list[int] = []

    async def __call__(self, message: Message[int]) -> None:
        self.begun.append(message.body)
        await self.gate.wait()
        self.done.append(message.body)


async def test_a_graceful_stop_lets_running_handlers_finish_and_gives_the_rest_back(workshop: Workshop) -> None:
    slow = Slow()
    handler = await workshop.declare(slow)
    await workshop.queue().send_batch(range(30))
    worker = await workshop.start(handler, concurrency=5)
    await workshop.until(lambda: len(slow.begun) == 5)
    for _ in range(100):
        worker._by_queue["q"].pace.count(0.001)  # as if it had been quick
    await workshop.clock.advance(1)
    await workshop.until(lambda: worker._by_queue["q"].ready)
    worker.stop()
    await workshop.clock.advance(5)
    await workshop.until(lambda: not worker._by_queue["q"].settler.unsettled)
    assert len(slow.begun) == 5 and (await workshop.store.metrics("q")).leased == 5
    slow.gate.set()
    await workshop.ended(worker)
    assert slow.done == slow.begun
    assert [(found.attempts, found.leased) for found in await workshop.peek()] == [(0, False)] * 25
    assert workshop.told(WorkerStopped)[0].unsettled == 0 and not workshop.told(MessageFailed)


async def test_what_outlives_the_grace_is_cancelled_and_released(workshop: Workshop) -> None:
    slow = Slow()
    handler = await workshop.declare(slow)
    await workshop.queue().send(1)
    worker = await workshop.start(handler, grace_s=10)
    await workshop.until(lambda: slow.begun)
    worker.stop()
    await workshop.clock.advance(9.9)
    assert (await workshop.store.metrics("q")).leased == 1
    await workshop.clock.advance(0.1)
    await workshop.ended(worker)
    assert [(found.attempts, found.leased) for found in await workshop.peek()] == [(0, False)]
    assert not workshop.told(MessageFailed)


async def test_a_stop_now_waits_for_nobody(workshop: Workshop) -> None:
    slow = Slow()
    handler = await workshop.declare(slow)
    await workshop.queue().send(1)
    worker = await workshop.start(handler)
    await workshop.until(lambda: slow.begun)
    worker.stop()
    await workshop.clock.settle()
    await workshop.stop(worker, Stop.NOW)
    assert [(found.attempts, found.leased) for found in await workshop.peek()] == [(0, False)]


async def test_cancelling_run_is_a_stop_now(workshop: Workshop) -> None:
    slow = Slow()
    handler = await workshop.declare(slow)
    await workshop.queue().send(1)
    worker = await workshop.start(handler)
    await workshop.until(lambda: slow.begun)
    [(_, task)] = workshop._running
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert worker._is_over and not (await workshop.peek())[0].leased


async def test_a_cancelled_handler_that_ends_well_is_acknowledged(workshop: Workshop) -> None:
    async def handle(message: Message[int]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    worker = await workshop.start(await workshop.declare(handle))
    await workshop.queue().send(1)
    await workshop.until(workshop.board.running)
    await workshop.stop(worker, Stop.NOW)
    assert await workshop.backlog() == 0


async def test_a_call_that_was_started_but_never_began_is_given_back(workshop: Workshop) -> None:
    slow = Slow()
    handler = await workshop.declare(slow)
    await workshop.queue().send(1)
    worker = await workshop.start(handler)
    begin = worker._begin

    def begin_and_stop(*arguments: Any) -> None:
        begin(*arguments)
        for call in worker._calls:
            worker._dispatcher.interrupt(call, Interruption.SHUTDOWN, 0)

    worker._begin = begin_and_stop  # type: ignore[method-assign, assignment]  # the stop comes in between
    await workshop.until(workshop.board.running)
    await workshop.stop(worker)
    assert slow.begun == [] and (await workshop.peek())[0].attempts == 0


async def test_a_thread_that_does_not_end_is_left_behind(workshop: Workshop) -> None:
    release = threading.Event()

    def handle(message: Message[int]) -> None:
        release.wait()

    worker = await workshop.start(await workshop.declare(handle), grace_s=1)
    await workshop.queue().send(1)
    await workshop.until(workshop.board.running)
    worker.stop()
    await workshop.clock.advance(1)
    await workshop.ended(worker)
    assert (await workshop.peek())[0].attempts == 0
    release.set()


async def test_lost_leases_cancel_coroutines_tell_threads_and_stop_the_worker(workshop: Workshop) -> None:
    slow = Slow()
    told: list[bool] = []
    begun, go_on = threading.Event(), threading.Event()

    def in_thread(message: Message[int]) -> None:
        begun.set()
        go_on.wait()
        told.append(message.lease_lost)

    worker = await workshop.start(await workshop.declare(slow, "a"), await workshop.declare(in_thread, "b"))
    await workshop.queue("a").send(1)
    await workshop.queue("b").send(1)
    await workshop.until(lambda: slow.begun and begun.is_set())
    await workshop.store.reap_owner(worker.owner, Evidence(ending=Ending.LOST))
    worker.lose_leases()
    go_on.set()
    await workshop.ended(worker)
    await workshop.until(lambda: told)
    assert told == [True] and slow.done == []
    assert len(await workshop.peek("a")) == len(await workshop.peek("b")) == 1


async def test_a_verdict_on_a_lost_lease_is_told_and_changes_nothing(workshop: Workshop) -> None:
    slow = Slow()
    worker = await workshop.start(await workshop.declare(slow))
    await workshop.queue().send(1)
    await workshop.until(lambda: slow.begun)
    await workshop.store.reap_owner(worker.owner, Evidence(ending=Ending.LOST))
    slow.gate.set()
    await workshop.until(lambda: workshop.told(LeaseLost))
    assert await workshop.backlog() == 1 and workshop.board.running() == frozenset()


class Failing(MemoryStore):
    """Refuses for as long as it is told to."""

    refuses: Exception | None = None

    async def claim(self, request: ClaimRequest) -> Claimed:
        if self.refuses:
            raise self.refuses
        return await super().claim(request)

    async def settle(
        self, owner: int, settlements: Sequence[Settlement], *, ended: Mapping[str, int] | None = None
    ) -> Settled:
        if self.refuses:
            raise self.refuses
        return await super().settle(owner, settlements, ended=ended)


@pytest.mark.parametrize("problem", [StoreBusyError("db", 5), StoreFullError("db"), ValueError("a bug")], ids=repr)
async def test_a_store_that_refuses_costs_neither_a_verdict_nor_the_worker(
    workshop: Workshop, problem: Exception
) -> None:
    workshop.store = store = Failing(workshop.clock)
    await store.open()
    slow = Slow()
    handler = await workshop.declare(slow, max_concurrency=20)
    await workshop.queue().send_batch(range(10))
    worker = await workshop.start(handler)
    await workshop.until(lambda: len(slow.begun) == 10)
    store.refuses = problem
    slow.gate.set()
    await workshop.until(lambda: workshop.told(SettleFailed))
    for _ in range(20):
        await workshop.clock.advance(1)
    assert len(workshop.board.running()) == 10  # evidence until it is durable
    assert 3 <= len(workshop.told(ClaimFailed)) <= 12 and len(workshop.told(SettleFailed)) >= 5
    store.refuses = None
    await workshop.clock.advance(6)
    await workshop.until_empty()
    await workshop.queue().send_batch(range(10))
    await workshop.until_empty()
    assert len(slow.done) == 20
    await workshop.stop(worker)
    assert workshop.told(WorkerStopped)[0].unsettled == 0


async def test_a_stop_under_a_store_that_refuses_ends_all_the_same_and_says_what_is_unsettled(
    workshop: Workshop,
) -> None:
    workshop.store = store = Failing(workshop.clock)
    await store.open()
    slow = Slow()
    worker = await workshop.start(await workshop.declare(slow), grace_s=10)
    await workshop.queue().send(1)
    await workshop.until(lambda: slow.begun)
    store.refuses = StoreFullError("db")
    slow.gate.set()
    await workshop.until(lambda: workshop.told(SettleFailed))
    worker.stop()
    await workshop.clock.advance(12)
    await workshop.ended(worker)
    assert workshop.told(WorkerStopped)[0].unsettled == 1


async def test_a_queue_that_is_deleted_under_a_worker_is_a_claim_that_fails_now_and_then(workshop: Workshop) -> None:
    slow = Slow()
    await workshop.start(await workshop.declare(slow))
    await workshop.clock.settle()
    await workshop.store.delete_queue("q")
    for _ in range(30):
        await workshop.clock.advance(1)
    assert 5 <= len(workshop.told(ClaimFailed)) <= 20
    await workshop.declare(slow)
    slow.gate.set()
    await workshop.queue().send(1)
    await workshop.clock.advance(6)
    await workshop.until_empty()
