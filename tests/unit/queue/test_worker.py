"""A worker takes messages from a store to handlers, and what they say back to the store."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from conveyor.model.events import (
    CallOverdue,
    HandlerRaised,
    MessageDeadLettered,
    MessageFailed,
    QueueReloaded,
    VerdictIgnored,
    WorkerStarted,
    WorkerStopped,
)
from conveyor.model.verdict import Backoff, RateLimited, Reject, Retry
from conveyor.queue.delivery import Batch, Message
from conveyor.queue.pace import Pace
from conveyor.queue.worker import Stop
from conveyor.store.records import Claimed, ClaimRequest
from conveyor.store.undivided import Undivided

if TYPE_CHECKING:
    from unit.queue.conftest import Workshop

pytestmark = pytest.mark.anyio


async def test_messages_are_handled_and_acknowledged(workshop: Workshop) -> None:
    seen: list[Any] = []

    async def handle(message: Message[int]) -> None:
        seen.append(message.body)

    worker = await workshop.start(await workshop.declare(handle))
    await workshop.queue().send_batch(range(50))
    await workshop.until_empty()
    assert seen == list(range(50))
    await workshop.stop(worker)
    assert [type(event) for event in workshop.events] == [WorkerStarted, WorkerStopped]
    assert workshop.board.running() == frozenset()


async def test_a_sync_handler_runs_in_a_thread_with_the_context_of_its_worker(workshop: Workshop) -> None:
    seen: list[Any] = []

    def handle(message: Message[int]) -> None:
        seen.append((message.body, threading.current_thread() is threading.main_thread()))

    await workshop.start(await workshop.declare(handle))
    await workshop.queue().send(1)
    await workshop.until_empty()
    assert seen == [(1, False)]


async def test_a_context_variable_set_by_one_call_is_not_seen_by_another(workshop: Workshop) -> None:
    leak: contextvars.ContextVar[int] = contextvars.ContextVar("leak")
    seen: list[int | None] = []

    async def handle(message: Message[int]) -> None:
        seen.append(leak.get(None))
        leak.set(message.body)

    await workshop.start(await workshop.declare(handle), concurrency=1)
    await workshop.queue().send_batch(range(20))
    await workshop.until_empty()
    assert seen == [None] * 20


async def test_batches_are_full_or_have_waited_their_time(workshop: Workshop) -> None:
    sizes: list[int] = []

    async def handle(batch: Batch[int]) -> None:
        sizes.append(len(batch))

    handler = await workshop.declare(handle, max_batch_size=10, max_batch_timeout_ms=5_000)
    await workshop.queue().send_batch(range(25))
    await workshop.start(handler)
    await workshop.until(lambda: len(sizes) == 2)
    await workshop.clock.advance(4.9)
    assert sizes == [10, 10]
    await workshop.clock.advance(0.1)
    await workshop.until_empty()
    assert sizes == [10, 10, 5]


async def test_an_unreadable_body_fails_alone_and_is_dead_lettered_in_the_end(workshop: Workshop) -> None:
    seen: list[int] = []

    async def handle(batch: Batch[int]) -> None:
        seen.extend(message.body for message in batch)

    handler = await workshop.declare(handle, max_retries=1, max_batch_timeout_ms=0)
    await workshop.queue().send_batch([1, "two", 3])
    await workshop.start(handler)
    await workshop.until_empty()
    [dead] = await workshop.peek("q-dlq")
    assert seen == [1, 3] and dead.body == b'"two"'
    assert dead.dead is not None and (dead.dead.last_error or "").startswith("BodyDecodeError: a body in queue `q`")
    assert [event.attempt for event in workshop.told(MessageFailed)] == [1, 2]


async def test_a_failure_is_retried_after_the_consumers_delay_and_then_dead_lettered(workshop: Workshop) -> None:
    async def handle(message: Message[int]) -> None:
        raise ValueError(f"attempt {message.attempts}")

    handler = await workshop.declare(handle, max_retries=2, retry_delay=Backoff.fixed(10))
    await workshop.queue().send(1)
    await workshop.start(handler)
    for attempt in (1, 2, 3):
        while len(workshop.told(MessageFailed)) < attempt or (await workshop.store.metrics("q")).leased:
            await asyncio.sleep(0)
        if attempt < 3:
            await workshop.clock.advance(9.9)
            assert len(workshop.told(MessageFailed)) == attempt
            await workshop.clock.advance(0.1)
    await workshop.until(lambda: workshop.told(MessageDeadLettered))
    [dead] = await workshop.peek("q-dlq")
    assert dead.dead is not None and (dead.dead.reason, dead.dead.last_error) == ("retries", "ValueError: attempt 3")


async def test_a_rate_limit_rests_the_whole_queue_and_costs_no_attempt(workshop: Workshop) -> None:
    seen: list[tuple[int, int]] = []

    async def handle(message: Message[int]) -> None:
        seen.append((message.body, message.attempts))
        if len(seen) == 1:
            raise RateLimited(30)

    await workshop.start(await workshop.declare(handle, max_retries=0), concurrency=1)
    await workshop.queue().send(1)
    await workshop.until(lambda: seen)
    while (await workshop.store.metrics("q")).leased:
        await asyncio.sleep(0)
    await workshop.queue().send(2)
    await workshop.clock.advance(29)
    assert seen == [(1, 1)]
    await workshop.clock.advance(1)
    await workshop.until_empty()
    assert sorted(seen[1:]) == [(1, 1), (2, 1)]


async def test_an_ignored_call_and_an_unheard_error_are_told(workshop: Workshop) -> None:
    async def handle(message: Message[int]) -> None:
        message.ack()
        message.retry()
        raise ValueError("late")

    await workshop.start(await workshop.declare(handle))
    await workshop.queue().send(1)
    await workshop.until_empty()
    assert len(workshop.told(VerdictIgnored)) == len(workshop.told(HandlerRaised)) == 1


class Unserialisable:
    def __reduce__(self) -> Any:
        raise TypeError("no")


def fork_and_return() -> None:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)


def be_bad(message: Message[str]) -> Any:
    """The table of F40."""
    match message.body:
        case "exception":
            raise ValueError
        case "base":
            raise BaseException("base")
        case "interrupt":
            raise KeyboardInterrupt
        case "exit":
            raise SystemExit(3)
        case "cancelled":
            raise asyncio.CancelledError
        case "generator exit":
            raise GeneratorExit
        case "stop iteration":
            raise StopIteration
        case "unserialisable":
            return Unserialisable()
        case "fork":
            return fork_and_return()
        case "verdict of nonsense":
            return [Retry]
        case "closes stdin":
            os.close(os.dup(0))
        case "bad delay":
            message.retry(delay="soon")
        case "recursion":
            return be_bad(message)
    return None


GOOD = {"unserialisable", "fork", "verdict of nonsense", "closes stdin"}
BAD = {
    "exception",
    "base",
    "interrupt",
    "exit",
    "cancelled",
    "generator exit",
    "stop iteration",
    "bad delay",
    "recursion",
}


@pytest.mark.parametrize("kind", ["loop", "thread", "batch"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_whatever_a_handler_does_each_message_is_settled_once_and_the_worker_lives(
    workshop: Workshop, kind: str
) -> None:
    calls: Counter[str] = Counter()

    async def on_loop(message: Message[str]) -> Any:
        calls[message.body] += 1
        return be_bad(message)

    def in_thread(message: Message[str]) -> Any:
        calls[message.body] += 1
        return be_bad(message)

    async def in_batch(batch: Batch[str]) -> Any:
        calls[batch.messages[0].body] += 1
        return be_bad(batch.messages[0])

    function: Any = {"loop": on_loop, "thread": in_thread, "batch": in_batch}[kind]
    worker = await workshop.start(await workshop.declare(function, max_retries=1, max_batch_size=1))
    await workshop.queue().send_batch(sorted(GOOD | BAD))
    await workshop.until_empty()
    assert calls == {**dict.fromkeys(GOOD, 1), **dict.fromkeys(BAD, 2)}
    assert {dead.body.decode().strip('"') for dead in await workshop.peek("q-dlq")} == BAD
    await workshop.queue().send("exception")
    await workshop.until_empty()
    await workshop.stop(worker)
    assert workshop.board.running() == frozenset()


async def test_a_call_over_its_time_is_cancelled_and_fails_once(workshop: Workshop) -> None:
    async def handle(message: Message[int]) -> None:
        await asyncio.Event().wait()

    await workshop.start(await workshop.declare(handle, timeout_ms=3_000, max_retries=0))
    await workshop.queue().send(1)
    await workshop.until(workshop.board.running)
    await workshop.clock.advance(2)
    assert not workshop.told(MessageFailed)
    await workshop.clock.advance(2)
    await workshop.until_empty()
    [dead] = await workshop.peek("q-dlq")
    assert dead.dead is not None and dead.dead.reason == "timeout"
    assert "ran longer than 3 s" in (dead.dead.last_error or "")


async def test_a_call_that_ignores_its_cancellation_is_reported_as_stuck(workshop: Workshop) -> None:
    release = asyncio.Event()

    async def handle(message: Message[int]) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    await workshop.start(await workshop.declare(handle, timeout_ms=1_000, max_retries=0))
    await workshop.queue().send(1)
    await workshop.until(workshop.board.running)
    await workshop.clock.advance(5.5)
    assert workshop.stuck == []
    await workshop.clock.advance(4)
    assert workshop.stuck == [workshop.board.running()]
    assert len(workshop.told(CallOverdue)) == 1
    release.set()
    await workshop.until_empty()
    assert (await workshop.peek("q-dlq"))[0].dead.reason == "timeout"  # type: ignore[union-attr]  # it is dead


async def test_a_thread_over_its_time_keeps_its_slot_and_is_shown_as_overdue(workshop: Workshop) -> None:
    release = threading.Event()

    def handle(message: Message[int]) -> None:
        release.wait()

    await workshop.start(await workshop.declare(handle, timeout_ms=1_000), concurrency=1)
    await workshop.queue().send_batch([1, 2])
    await workshop.until(workshop.board.running)
    await workshop.clock.advance(10)
    assert len(workshop.told(CallOverdue)) == 1 and len(workshop.board.running()) == 1 and not workshop.stuck
    release.set()
    await workshop.until_empty()
    assert not workshop.told(MessageFailed)


async def test_no_queue_can_take_all_slots(workshop: Workshop) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    release = asyncio.Event()

    async def handle(message: Message[int]) -> None:
        running[message.queue] += 1
        most[message.queue] = max(most[message.queue], running[message.queue])
        await release.wait()
        running[message.queue] -= 1

    handlers = [await workshop.declare(handle, name) for name in ("a", "b", "c")]
    for name in ("a", "b"):
        await workshop.queue(name).send_batch(range(50))
    await workshop.start(*handlers, concurrency=11, weights={"b": 2})
    await workshop.until(lambda: running.total() == 11)
    assert running["a"] in (3, 4) and running["b"] in (7, 8)
    release.set()
    await workshop.until_empty("a", "b")
    await workshop.clock.advance(1)
    release.clear()
    most.clear()
    await workshop.queue("a").send_batch(range(50))
    await workshop.until(lambda: running["a"] == 9)
    await workshop.clock.advance(2)
    assert running["a"] == 9
    await workshop.queue("c").send(1)
    await workshop.until(lambda: running["c"] == 1)
    release.set()
    await workshop.until_empty("a", "c")


class Recorder(Undivided):
    """A store that remembers the claims made on it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: list[ClaimRequest] = []
        self.claimed: list[Claimed] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim(self, request: ClaimRequest) -> Claimed:
        self.asked.append(request)
        claimed: Claimed = await self._store.claim(request)
        self.claimed.append(claimed)
        return claimed


@pytest.mark.parametrize(("seconds", "kept"), [(0.5, 20), (10, 1), (0.05, 200)])
async def test_prefetch_is_what_can_start_within_a_second(workshop: Workshop, seconds: float, kept: int) -> None:
    async def handle(message: Message[int]) -> None:
        await workshop.clock.sleep(seconds)

    handler = await workshop.declare(handle)
    for _ in range(10):
        await workshop.queue().send_batch(range(100))
    store = Recorder(workshop.store)
    worker = await workshop.start(handler, store=store, concurrency=10)
    await workshop.until(lambda: len(workshop.board.running()) == 10)
    assert [request.limit for request in store.asked] == [10]
    assert (await workshop.store.metrics("q")).leased == 10  # nothing has ended yet: nothing is kept at hand
    waiting = []
    while len(store.asked) < 5:
        await workshop.clock.advance(seconds)
        waiting.append(len(worker._by_queue["q"].ready))
    assert kept / 2 <= max(waiting) <= kept


async def test_a_pace_that_becomes_slow_is_noticed_before_a_call_has_ended() -> None:
    pace = Pace()
    assert pace.rate() == 0
    for _ in range(1_000):
        pace.count(0.01)
    assert pace.rate() == pytest.approx(100)
    pace.under_way_s = 100 * 60
    assert pace.rate() < 0.05


async def test_a_limited_queue_never_holds_more_than_it_may_run(workshop: Workshop) -> None:
    running = most = 0

    async def handle(message: Message[int]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    handler = await workshop.declare(handle, max_concurrency=3)
    store = Recorder(workshop.store)
    await workshop.queue().send_batch(range(40))
    await workshop.start(handler, store=store)
    await workshop.start(handler, store=store)
    await workshop.until_empty()
    assert most == 3
    assert max(len(claimed.leases) for claimed in store.claimed) <= 3


async def test_a_pause_gives_back_what_has_not_begun_and_a_resume_goes_on(workshop: Workshop) -> None:
    gate = asyncio.Event()
    done: list[int] = []

    async def handle(message: Message[int]) -> None:
        await gate.wait()
        done.append(message.attempts)

    handler = await workshop.declare(handle)
    await workshop.queue().send_batch(range(30))
    worker = await workshop.start(handler, concurrency=10)
    await workshop.until(lambda: len(workshop.board.running()) == 10)
    consumer = worker._by_queue["q"]
    for _ in range(100):
        consumer.pace.count(0.001)  # as if it had been quick
    await workshop.clock.advance(1)
    await workshop.until(lambda: consumer.ready)
    await workshop.store.pause("q")
    await workshop.clock.advance(5)
    await workshop.until(lambda: not worker._by_queue["q"].settler.unsettled)
    assert (await workshop.store.metrics("q")).leased == 10 and not consumer.ready
    gate.set()
    await workshop.until(lambda: len(done) == 10)
    await workshop.clock.advance(3)
    assert len(done) == 10
    await workshop.store.resume("q")
    await workshop.clock.advance(1)
    await workshop.until_empty()
    assert done == [1] * 30
    assert [event.is_open for event in workshop.told(QueueReloaded)] == [False, True]


async def test_new_settings_of_the_consumer_operate_without_a_restart(workshop: Workshop) -> None:
    sizes: list[int] = []

    async def handle(batch: Batch[int]) -> None:
        sizes.append(len(batch))

    handler = await workshop.declare(handle, max_batch_size=2, max_batch_timeout_ms=0)
    await workshop.start(handler)
    await workshop.clock.settle()
    info = await workshop.store.get_queue("q")
    assert info.consumer is not None
    changed = type(info.consumer)(script="shop", max_batch_size=5, max_batch_timeout_ms=0)
    await workshop.store.put_consumer("q", changed)
    await workshop.clock.advance(1)
    await workshop.queue().send_batch(range(10))
    await workshop.until_empty()
    assert sizes == [5, 5]


async def test_a_queue_whose_consumer_went_to_another_app_is_left_alone(workshop: Workshop) -> None:
    async def handle(message: Message[int]) -> None: ...

    handler = await workshop.declare(handle)
    await workshop.start(handler)
    await workshop.clock.settle()
    await workshop.store.put_consumer("q", type(handler.settings)(script="other"))
    await workshop.clock.advance(1)
    await workshop.queue().send(1)
    await workshop.clock.advance(3)
    assert await workshop.backlog() == 1 and (await workshop.store.metrics("q")).leased == 0


async def test_a_message_sent_while_a_claim_finds_nothing_is_not_forgotten(workshop: Workshop) -> None:
    async def handle(message: Message[int]) -> None: ...

    class Sly(Recorder):
        async def claim(self, request: ClaimRequest) -> Claimed:
            claimed = await super().claim(request)
            if len(self.asked) == 1:
                await workshop.queue().send(1)  # after the claim looked, before its answer is here
                await asyncio.sleep(0)
            return claimed

    store = Sly(workshop.store)
    await workshop.start(await workshop.declare(handle), store=store)
    await workshop.until(lambda: len(store.asked) > 1)
    await workshop.until_empty()


async def test_a_delayed_message_starts_when_its_time_has_come(workshop: Workshop) -> None:
    seen: list[int] = []

    async def handle(message: Message[int]) -> None:
        seen.append(workshop.clock.now_ms())

    await workshop.start(await workshop.declare(handle))
    sent_at = workshop.clock.now_ms()
    await workshop.queue().send(1, delay=2.35)
    await workshop.clock.advance(2.34)
    assert seen == []
    await workshop.clock.advance(0.01)
    await workshop.until_empty()
    assert seen == [sent_at + 2_350]


async def test_a_rejected_message_is_dead_lettered_at_once(workshop: Workshop) -> None:
    async def handle(message: Message[int]) -> None:
        raise Reject("bad address")

    await workshop.start(await workshop.declare(handle))
    await workshop.queue().send(1)
    await workshop.until_empty()
    [told] = workshop.told(MessageDeadLettered)
    assert (told.reason, told.attempt) == ("bad address", 1)


async def test_stop_is_an_enum_and_may_be_called_twice(workshop: Workshop) -> None:
    async def handle(message: Message[int]) -> None: ...

    worker = await workshop.start(await workshop.declare(handle))
    worker.stop()
    worker.stop(Stop.NOW)
    await workshop.ended(worker)
