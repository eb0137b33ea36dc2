"""A worker: the consumers of several queues, their handler calls in one event loop, and the order in which both end.

Slots go to the queue that has the fewest calls running for its weight, and one slot is kept free for each other
queue, so that none can take all. A stop gives back what has not begun, waits for what has, and then cuts it short:
none of these is a failure.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from random import Random
from typing import Any, Final, TypeAlias

from conveyor.model.errors import InvalidSettingError
from conveyor.model.events import (
    CallOverdue,
    Emit,
    LeaseLost,
    MessageDeadLettered,
    WorkerStarted,
    WorkerStopped,
)
from conveyor.model.message import Lease
from conveyor.model.verdict import Settlement
from conveyor.queue.board import Board
from conveyor.queue.consumer import Consumer
from conveyor.queue.delivery import Fence
from conveyor.queue.desk import Portion, Ran
from conveyor.queue.dispatch import Call, Dispatcher, Interruption
from conveyor.queue.frames import Isolation
from conveyor.queue.handler import Handler, RunIn
from conveyor.queue.immediate import Here
from conveyor.queue.isolation import SUSPECTS_MAX
from conveyor.queue.settle import Ended, Settler
from conveyor.queue.term import forget_ended, has_ended
from conveyor.store.jobs import job_name
from conveyor.store.protocol import Store

CONCURRENCY: Final = 100
GRACE_S: Final = 10.0
TICK_S: Final = 1.0
"""Polls and timeouts are looked after this often."""
STUCK_S: Final = 5.0
"""How long a cancelled call may take to end before the supervisor is told."""
LAST_WORDS_S: Final = 1.0
"""For cancelled calls to end, and for what they said to be written."""
NOW_S: Final = 0.3
"""The same for a stop that cannot wait."""

OnStuck: TypeAlias = Callable[[frozenset[int]], None]
"""Told the seqs of a call that was cancelled at its timeout and goes on: only the end of this process ends it."""

_Origin: TypeAlias = tuple[Consumer, Portion] | asyncio.Event
"""Where a call came from: a consumer's turn, or somebody who waits for its end."""


class Stop(Enum):
    """How to stop."""

    GRACEFULLY = "gracefully"
    """Running handlers have the grace period."""
    NOW = "now"
    """Running handlers are cancelled."""


class Worker:
    """Runs the handlers of an app for one owner."""

    def __init__(
        self,
        store: Store,
        owner: int,
        handlers: Iterable[Handler],
        *,
        board: Board,
        emit: Emit,
        random: Random,
        isolation: Isolation | None = None,
        concurrency: int = CONCURRENCY,
        grace_s: float = GRACE_S,
        weights: Mapping[str, int] | None = None,
        on_stuck: OnStuck | None = None,
        here: Here | None = None,
    ) -> None:
        self._clock = store.clock
        self._store = store
        self.owner = owner
        self._board = board
        self._emit = emit
        self._isolation = isolation
        self._concurrency = concurrency
        self._grace_s = grace_s
        self._on_stuck = on_stuck
        self._here = here or Here()
        fence = Fence(owner, store.join)
        self._dispatcher = Dispatcher(random, emit, isolation, fence, concurrency=concurrency, on_end=self._end)
        self._settlers: dict[Store, Settler] = {}
        self._consumers = [self._make_consumer(handler, (weights or {}).get(handler.queue, 1)) for handler in handlers]
        self._by_queue = {consumer.queue: consumer for consumer in self._consumers}
        others = len(self._consumers) - 1
        self._share = concurrency - others if concurrency > others else 1
        self._calls: dict[Call, _Origin] = {}
        self._free = concurrency
        self._in_children = 0
        self._turn = 0
        self._is_filling = False
        self._is_stopping = False
        self._is_over = False
        self._stop_wanted = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._calls_over = asyncio.Event()
        self.suspects_max = 1 if isolation is None else min(SUSPECTS_MAX, concurrency)  # each in a child, if there are
        self._alone = asyncio.Semaphore(self.suspects_max)
        self._context = contextvars.copy_context()
        self._check_isolation()

    def _make_consumer(self, handler: Handler, weight: int) -> Consumer:
        """Each store settles by itself: what one of them refuses keeps no verdict from another."""
        store = self._store.at(handler.queue)
        if store not in self._settlers:
            told = (self._tell_lost, self._tell_dead, self._doubt)
            self._settlers[store] = Settler(store, self.owner, self._clock, self._board, self._emit, *told)
        return Consumer(store, self.owner, self._emit, self._settlers[store], self, handler, weight=weight)

    async def run(self) -> None:
        """Work until `stop`; cancelling this is a stop that cannot wait."""
        queues = tuple(self._by_queue)
        self._emit(WorkerStarted(owner=self.owner, queues=queues, concurrency=self._concurrency))
        self._context = contextvars.copy_context()
        unsubscribe = self._store.subscribe(self._wake)
        for consumer in self._consumers:
            consumer.start()
            self._here.enter(consumer.line)
        ticking = asyncio.create_task(self._tick_forever())
        try:
            await self._stop_wanted.wait()
        except asyncio.CancelledError:
            self.stop(Stop.NOW)
            raise
        finally:
            unsubscribe()
            unsettled = await self._wind_down()
            ticking.cancel()
            self._emit(WorkerStopped(owner=self.owner, unsettled=unsettled))

    def stop(self, how: Stop = Stop.GRACEFULLY) -> None:
        """Let `run` come to its end; a second call with `Stop.NOW` hurries it."""
        self._is_stopping = True
        self._stop_wanted.set()
        if how is Stop.NOW:
            self._stop_now.set()

    def lose_leases(self) -> None:
        """The owner is gone: nothing held here is ours any more. Handlers are cut short or told, and the worker
        stops."""
        for consumer in self._consumers:
            consumer.forget_ready()
        for call in list(self._calls):
            self._dispatcher.interrupt(call, Interruption.LOST, self._clock.monotonic())
        self.stop(Stop.NOW)

    def free_calls(self, consumer: Consumer) -> int:
        free = min(self._free, self._share - consumer.running)
        if consumer.settings.calls_max is not None:
            free = min(free, consumer.settings.calls_max - consumer.running)
        if consumer.handler.run_in is RunIn.PROCESS and self._isolation is not None:
            free = min(free, self._isolation.size - self._in_children)
        return max(0, free)

    def fill_soon(self) -> None:
        if not self._is_filling and not self._is_stopping:
            self._is_filling = True  # not in the context of the handler that has just ended
            asyncio.get_running_loop().call_soon(self._fill, context=self._context)

    async def run_alone(self, consumer: Consumer, leases: Sequence[Lease]) -> Ran:
        async with self._alone:
            if self._is_stopping:
                return Ran.NOT
            over = asyncio.Event()
            handler = consumer.handler.pick(leases[0])
            run_in = handler.run_in if self._isolation is None else RunIn.PROCESS
            settings = handler.settings_over(consumer.settings, leases[0])
            self._begin(Call(handler, leases, settings, run_in, self._clock.monotonic()), over)
            await over.wait()
            return Ran.TO_ITS_END

    def leases_of(self, queue: str) -> Iterator[Lease]:
        for call in self._calls:
            if call.handler.queue == queue:
                yield from call.leases

    def _doubt(self, queues: Iterable[str]) -> None:
        for queue in queues:
            self._by_queue[queue].doubt()

    def _fill(self) -> None:
        """Start what can be started."""
        self._is_filling = False
        if self._is_stopping:
            return
        started_at = self._clock.monotonic()
        while self._free > 0:
            consumer = self._next()
            if consumer is None or len(consumer.ready[0][0]) > self._board.free:
                break
            portion = consumer.take()
            handler = consumer.handler.pick(portion[0][0])
            settings = handler.settings_over(consumer.settings, portion[0][0])
            self._free -= 1
            if handler.run_in is RunIn.PROCESS:
                self._in_children += 1
            self._begin(Call(handler, portion[0], settings, handler.run_in, started_at), (consumer, portion))
        if self._free > 0 and len(self._consumers) > 1:
            for consumer in self._consumers:
                consumer.look()

    def _next(self) -> Consumer | None:
        """The consumer whose turn it is, of those that have something to start."""
        consumers = self._consumers
        best, least = None, math.inf
        for offset in range(len(consumers)):
            at = (self._turn + offset) % len(consumers)
            consumer = consumers[at]
            if consumer.ready and consumer.running / consumer.weight < least and self.free_calls(consumer) > 0:
                best, least = at, consumer.running / consumer.weight
        if best is None:
            return None
        self._turn = best + 1
        return consumers[best]

    def _begin(self, call: Call, origin: _Origin) -> None:
        start = self._board.start
        call.slots = [start(lease.seq) for lease in call.leases]
        self._calls[call] = origin
        self._dispatcher.start(call, asyncio.get_running_loop())

    def _end(self, call: Call, settlements: Sequence[Settlement]) -> None:
        """A handler is over; its messages stay on the board until their settlements are durable."""
        if self._is_over:  # a handler that outlived its worker: whoever reaps the owner has its messages
            return
        add, handler = self._by_queue[call.handler.queue].settler.add, call.handler
        for settlement, lease, slot in zip(settlements, call.leases, call.slots, strict=False):
            if handler.parts is not None and settlement.outcome is None:
                running_ms = round((self._clock.monotonic() - call.started_at) * 1000)
                settlement = handler.close(lease, settlement, running_ms)  # noqa: PLW2901  # the one it asked for, said in full
            add(settlement, lease, slot)
        if not settlements:  # the leases are lost
            for slot in call.slots:
                self._board.end(slot)
        origin = self._calls.pop(call)
        if isinstance(origin, asyncio.Event):
            origin.set()
        else:
            consumer, portion = origin
            self._free += 1
            if call.run_in is RunIn.PROCESS:
                self._in_children -= 1
            consumer.end(portion[1], self._clock.monotonic() - call.started_at)
        if not self._is_stopping:
            self.fill_soon()
        elif not self._calls:
            self._calls_over.set()

    def _wake(self, queues: frozenset[str]) -> None:
        for queue in queues:
            consumer = self._by_queue.get(queue)
            if consumer is not None:
                consumer.wake()

    async def _tick_forever(self) -> None:
        while True:
            self._board.beat(self._clock.now_ms())
            await self._clock.sleep(TICK_S)
            self._look_at_calls(self._clock.monotonic())
            self._look_at_ready()
            if not self._is_stopping:
                for consumer in self._consumers:
                    consumer.poll()
                self.fill_soon()

    def _look_at_calls(self, now: float) -> None:
        for consumer in self._consumers:
            consumer.pace.under_way_s = 0.0
        for call, origin in list(self._calls.items()):
            running_s = now - call.started_at
            if not isinstance(origin, asyncio.Event):
                origin[0].pace.under_way_s += running_s
            if running_s >= call.timeout_s:
                self._hurry(call, now)
            if call.leases[0].ends_at is not None and not call.is_lost:
                self._look_at_end(call, now)

    def _look_at_end(self, call: Call, now: float) -> None:
        """Leases that nobody renews: once they end, the handler is cut short or told."""
        if has_ended(call.leases, self._now_ms(call.handler.queue)):
            call.is_lost = True
            self._emit(LeaseLost(message_ids=call.message_ids))
            self._dispatcher.interrupt(call, Interruption.LOST, now)

    def _look_at_ready(self) -> None:
        for consumer in self._consumers:
            if consumer.ready and consumer.ready[0][0][0].ends_at is not None:
                forget_ended(consumer.ready, self._now_ms(consumer.queue))

    def _now_ms(self, queue: str) -> int:
        return self._store.at(queue).clock.now_ms()

    def _hurry(self, call: Call, now: float) -> None:
        """The call has run for too long."""
        if call.run_in is not RunIn.THREAD and call.interruption is None:
            self._dispatcher.interrupt(call, Interruption.TIMEOUT, now)
            return
        is_stuck = call.interruption is Interruption.TIMEOUT and now - call.interrupted_at >= STUCK_S
        if call.is_overdue or not (is_stuck or call.run_in is RunIn.THREAD):
            return
        call.is_overdue = True
        self._emit(
            CallOverdue(
                queue=call.handler.queue, message_ids=call.message_ids,
                running_s=now - call.started_at, timeout_s=call.timeout_s, job=job_name(call.leases[0].headers),
            )
        )  # fmt: skip
        if is_stuck and self._on_stuck is not None:
            self._on_stuck(frozenset(lease.seq for lease in call.leases))

    async def _wind_down(self) -> int:
        """Give back what has not begun, wait for what has, cut it short, write it all down; how much is left
        unwritten."""
        self._is_stopping = True
        for consumer in self._consumers:
            self._here.leave(consumer.line)
        patience_s = NOW_S if self._stop_now.is_set() else LAST_WORDS_S
        end_at = self._clock.monotonic() + self._grace_s + 2 * patience_s
        closing = asyncio.create_task(self._stop_consumers())
        await self._wait(self._until_calls_over(), self._grace_s)
        for call in list(self._calls):
            self._dispatcher.interrupt(call, Interruption.SHUTDOWN, self._clock.monotonic())
        await self._wait_longer(self._until_calls_over(), patience_s)
        await self._wait_longer(closing, patience_s)
        await self._wait_longer(self._drain_settlers(), max(patience_s, end_at - self._clock.monotonic()))
        self._is_over = True
        self._dispatcher.close()
        for consumer in self._consumers:
            consumer.abandon()
        unsettled = sum(settler.abandon() for settler in self._settlers.values())
        return unsettled + sum(len(call.leases) for call in self._calls)

    async def _stop_consumers(self) -> None:
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers))

    async def _drain_settlers(self) -> None:
        await asyncio.gather(*(settler.drain() for settler in self._settlers.values()))

    async def _until_calls_over(self) -> None:
        while self._calls:
            self._calls_over.clear()
            await self._calls_over.wait()

    async def _wait(self, what: Coroutine[Any, Any, object], seconds: float) -> None:
        """Until it is done, for so long at most, and not at all if the stop is to be now."""
        work, sleep = asyncio.ensure_future(what), asyncio.ensure_future(self._clock.sleep(seconds))
        hurry = asyncio.ensure_future(self._stop_now.wait())
        await asyncio.wait((work, sleep, hurry), return_when=asyncio.FIRST_COMPLETED)
        for task in (work, sleep, hurry):
            task.cancel()

    async def _wait_longer(self, what: Awaitable[object], seconds: float) -> None:
        work, sleep = asyncio.ensure_future(what), asyncio.ensure_future(self._clock.sleep(seconds))
        await asyncio.wait((work, sleep), return_when=asyncio.FIRST_COMPLETED)
        for task in (work, sleep):
            task.cancel()

    def _tell_lost(self, ended: Sequence[Ended]) -> None:
        self._emit(LeaseLost(message_ids=tuple(each.lease.id.hex() for each in ended)))

    def _tell_dead(self, ended: Sequence[Ended]) -> None:
        for settlement, lease, _ in ended:
            job = job_name(lease.headers)
            self._emit(
                MessageDeadLettered(
                    queue=lease.queue, message_id=lease.id.hex(), attempt=lease.attempts,
                    reason=settlement.reason, error=settlement.error,
                    job_id=None if job is None else lease.id.hex(), job=job,
                )
            )  # fmt: skip

    def _check_isolation(self) -> None:
        for consumer in self._consumers:
            if consumer.handler.run_in is RunIn.PROCESS and self._isolation is None:
                raise InvalidSettingError(
                    "run_in", "process", f"the worker of queue `{consumer.queue}` has no child processes",
                    hint="start it with `conveyor work MODULE:APP`",
                )  # fmt: skip
