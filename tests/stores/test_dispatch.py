"""The modes of dispatch as real workers live them, on a clock that the test moves: the comparison of document 002, and
the change from any mode to any other while messages wait and run.

What the store does for them is conformance's, and runs on every store. Workers are the same whatever the store is: the
default run has them on SQLite, and on PostgreSQL the one test that goes through all modes; campaigns have the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType

import pytest

from conveyor import Dispatch, Message
from conveyor.model.ids import IdSource
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.queue.board import Board
from conveyor.queue.handler import read_handler
from conveyor.queue.immediate import Here
from conveyor.queue.producer import Queue
from conveyor.queue.worker import Stop, Worker
from conveyor.store.postgres import fair as postgres_fair
from conveyor.store.protocol import Store
from conveyor.store.records import Claimed, ClaimRequest, Ending
from conveyor.store.sqlite import fair as sqlite_fair
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import a_draft, an_ack, an_ending, an_owner

pytestmark = pytest.mark.anyio
on_both = pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)
on_sqlite = pytest.mark.parametrize(
    "store", ["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)], indirect=True
)
"""And on PostgreSQL in campaigns."""

LINE = "line"
NOTHING: Mapping[str, object] = MappingProxyType({})
PATIENCE_S = 60.0


@dataclass
class Call:
    """One call of the handler, and who ran beside it when it began."""

    number: int
    began_at: int
    beside: int
    ended_at: int | None = None


def _is_waiting(worker: Worker) -> bool:
    """For an answer of the store."""
    return any(
        each._claims
        or each._must_reload
        or each._is_in_doubt
        or each.settler._has_work
        or each.settler._flights
        or each.line._sends
        for each in worker._consumers
    )


@dataclass
class Shop:
    """A queue, and workers that handle each message for a while of the clock's time."""

    store: Store
    clock: ManualClock
    takes_s: float = 0.5
    calls: list[Call] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    here: Here = field(default_factory=Here)
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        async def settings_of(name: str) -> QueueSettings:
            return (await self.store.get_queue(name)).settings

        self.queue = Queue(self.store, IdSource(self.clock), settings_of, LINE, self.here)

    def consumer(self, mode: Dispatch, **settings: object) -> ConsumerSettings:
        return ConsumerSettings(script="shop", max_batch_size=1, dispatch=mode, **settings)  # type: ignore[arg-type]  # settings by name

    async def change(self, mode: Dispatch, **settings: object) -> None:
        await self.store.put_consumer(LINE, self.consumer(mode, **settings))

    async def handle(self, message: Message[int]) -> None:
        call = Call(message.body, self.clock.now_ms(), len(self.running))
        self.calls.append(call)
        self.running.add(message.body)
        try:
            await self.clock.sleep(self.takes_s)
        finally:
            self.running.discard(message.body)
        call.ended_at = self.clock.now_ms()

    @contextlib.asynccontextmanager
    async def at_work(
        self, mode: Dispatch, settings: Mapping[str, object] = NOTHING, *, workers: int = 1, concurrency: int = 100
    ) -> AsyncIterator[None]:
        consumer = self.consumer(mode, **settings)
        await self.store.declare_consumer(LINE, consumer)
        boards, running = [], []
        for _ in range(workers):
            board = Board.create(1024)
            handler = read_handler(LINE, self.handle, consumer)
            owner = await self.store.register_owner(an_owner())
            worker = Worker(
                self.store, owner, [handler], board=board, emit=lambda _event: None, random=Random(1), here=self.here,
                concurrency=concurrency,
            )  # fmt: skip
            boards.append(board)
            running.append((worker, asyncio.create_task(worker.run())))
            self.workers.append(worker)
        await self.let_settle()
        try:
            yield
        finally:
            self.workers.clear()
            for worker, task in running:
                worker.stop(Stop.NOW)
                while not task.done():
                    await self.let_settle()
                    await self.clock.advance(0.1)
            for board in boards:
                board.close()

    async def let_settle(self) -> None:
        """Until nothing is under way to the store or back, however long that takes in real time."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await self.store.metrics(LINE)
                await self.clock.settle()
                if not any(map(_is_waiting, self.workers)):
                    return

    async def pass_time(self, seconds: float, step_s: float = 1.0) -> None:
        until_ms = self.clock.now_ms() + round(seconds * 1000)
        while (left_ms := until_ms - self.clock.now_ms()) > 0:
            await self.clock.advance(min(step_s, left_ms / 1000))
            await self.let_settle()

    async def until(self, count: int) -> None:
        """Until so many calls are over."""
        async with asyncio.timeout(PATIENCE_S):
            while sum(call.ended_at is not None for call in self.calls) < count:
                await self.pass_time(0.5)

    async def to_the_minute(self, offset_s: float = 0.0) -> None:
        left_s = 60 - self.clock.now_ms() % 60_000 / 1000
        await self.pass_time(left_s - 1, step_s=20)
        await self.pass_time(1 + offset_s, step_s=0.5)


@pytest.fixture
def shop(store: Store, clock: ManualClock) -> Shop:
    return Shop(store, clock)


# The document's table. Seconds until a message starts that is sent three seconds after the minute into an empty queue;
# whether one call runs at a time; whether calls begin in the order of the sends. `queue` with the document's settings.
TABLE = [
    pytest.param(Dispatch.IMMEDIATE, {}, (0.0, 0.0), False, False, id="immediate"),
    pytest.param(Dispatch.CRON, {"dispatch_messages": 5}, (50.0, 57.5), True, True, id="cron"),
    pytest.param(Dispatch.ALARM, {}, (1.0, 2.5), True, True, id="alarm"),
    pytest.param(Dispatch.QUEUE, {"max_concurrency": 1}, (0.0, 1.5), True, True, id="queue"),
    pytest.param(Dispatch.QUEUE, {}, (0.0, 1.5), False, False, id="queue-unbounded"),
]


@on_sqlite
@pytest.mark.parametrize(("mode", "settings", "wait_s", "sequential", "fifo"), TABLE)
async def test_the_table_of_comparison(
    shop: Shop, mode: Dispatch, settings: dict[str, object], wait_s: tuple[float, float], sequential: bool, fifo: bool
) -> None:
    async with shop.at_work(mode, settings):
        await shop.to_the_minute(3)
        sent_at = shop.clock.now_ms()
        await shop.queue.send(0)
        await shop.let_settle()
        await shop.until(1)
        least_s, most_s = wait_s
        assert least_s <= (shop.calls[0].began_at - sent_at) / 1000 <= most_s
        for number in range(1, 6):
            await shop.queue.send(number)
        await shop.let_settle()
        await shop.until(6)
    assert sorted(call.number for call in shop.calls) == list(range(6))
    assert (max(call.beside for call in shop.calls) == 0) is sequential
    if fifo:
        assert [call.number for call in shop.calls] == list(range(6))


@on_sqlite
async def test_cron_takes_n_at_each_tick(shop: Shop) -> None:
    async with shop.at_work(Dispatch.CRON, {"dispatch_messages": 2}, workers=2):
        await shop.to_the_minute(5)
        await shop.queue.send_batch(range(7))
        for expected in (2, 4, 6, 7):
            before = shop.clock.now_ms()
            await shop.to_the_minute(10)
            assert len(shop.calls) == expected
            assert all(call.began_at >= before for call in shop.calls[expected - 2 : expected] if expected < 7)
    assert [call.number for call in shop.calls] == list(range(7))
    assert max(call.beside for call in shop.calls) == 0


@on_sqlite
async def test_alarm_is_armed_again_until_the_queue_is_empty(shop: Shop) -> None:
    async with shop.at_work(Dispatch.ALARM, workers=2):
        sent_at = shop.clock.now_ms()
        await shop.queue.send_batch(range(5))
        await shop.until(5)
        assert shop.calls[0].began_at - sent_at >= 1_000
        for earlier, later in zip(shop.calls, shop.calls[1:], strict=False):
            assert earlier.ended_at is not None
            assert 0 <= later.began_at - earlier.ended_at <= 2_500, "within a poll, where another worker takes it"
        await shop.pass_time(5)
        sent_at = shop.clock.now_ms()
        await shop.queue.send(5)
        await shop.until(6)
        assert shop.calls[5].began_at - sent_at >= 1_000
    assert [call.number for call in shop.calls] == list(range(6))


@on_sqlite
async def test_immediate_starts_what_is_sent_here_and_leaves_the_rest_to_others(shop: Shop) -> None:
    async with shop.at_work(Dispatch.IMMEDIATE):
        for number in range(3):
            await shop.queue.send(number)
            assert [each.leased for each in await shop.store.peek(LINE, limit=9)] == [True] * (number + 1)
        await shop.let_settle()
        assert [call.number for call in shop.calls] == [0, 1, 2]
        stranger = Shop(shop.store, shop.clock)
        await stranger.queue.send(3)
        await shop.until(4)


@on_sqlite
async def test_sends_at_one_moment_take_no_more_than_can_start(shop: Shop) -> None:
    async with shop.at_work(Dispatch.IMMEDIATE, concurrency=3):
        await asyncio.gather(*map(shop.queue.send, range(20)))
        assert sum(each.leased for each in await shop.store.peek(LINE, limit=100)) <= 3
        await shop.until(20)


@on_sqlite
async def test_a_send_leaves_the_room_that_a_claim_has_asked_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()
    claim = shop.store.claim

    async def slow(request: ClaimRequest) -> Claimed:
        claimed = await claim(request)
        if claimed.leases:
            asked.set()
            await may_answer.wait()
        return claimed

    async with shop.at_work(Dispatch.IMMEDIATE, concurrency=3):
        monkeypatch.setattr(shop.store, "claim", slow)
        stranger = Shop(shop.store, shop.clock)
        await stranger.queue.send_batch(range(3))  # of another process
        await asyncio.wait_for(asked.wait(), PATIENCE_S)
        ours = [asyncio.create_task(shop.queue.send(number)) for number in range(3, 6)]
        await shop.clock.settle()
        await shop.store.metrics(LINE)
        may_answer.set()
        await asyncio.gather(*ours)
        assert sum(each.leased for each in await shop.store.peek(LINE, limit=100)) == 3, "as many as can start"
        await shop.until(6)


ONE_AT_A_TIME = [
    pytest.param(Dispatch.ALARM, {}, id="alarm"),
    pytest.param(Dispatch.CRON, {}, id="cron"),
    pytest.param(Dispatch.QUEUE, {"max_concurrency": 1}, id="queue"),
]


@on_sqlite
@pytest.mark.parametrize(("mode", "settings"), ONE_AT_A_TIME)
async def test_a_crash_suspect_has_its_turn_though_others_never_end(
    shop: Shop, mode: Dispatch, settings: dict[str, object]
) -> None:
    await shop.store.declare_consumer(LINE, shop.consumer(Dispatch.QUEUE))
    await shop.queue.send(-1)
    owner = await shop.store.register_owner(an_owner())
    [lease] = (await shop.store.claim(ClaimRequest(queue=LINE, owner=owner, limit=1, calls=1))).leases
    await shop.store.reap_owner(owner, an_ending(Ending.CRASHED, started=frozenset({lease.seq})))
    await shop.queue.send_batch(range(20))
    async with shop.at_work(mode, settings):
        for _ in range(4):
            if mode is Dispatch.CRON:  # and not past it: a claim of suspects before a tick leaves it to one after it
                await shop.to_the_minute()
            await shop.pass_time(1, step_s=0.5)
    assert -1 in [call.number for call in shop.calls]
    assert max(call.beside for call in shop.calls) == 0


@on_both
@pytest.mark.parametrize("is_changed", [False, True], ids=["later", "changed"])
@pytest.mark.parametrize("mode", [Dispatch.CRON, Dispatch.ALARM])
async def test_many_keys_that_may_not_go_yet_are_not_asked_again_and_again(
    shop: Shop, mode: Dispatch, is_changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fair in (sqlite_fair, postgres_fair):
        monkeypatch.setattr(fair, "CALLED_MAX", 2)
        monkeypatch.setattr(fair, "ARRIVALS_MAX", 2)
    await shop.store.declare_consumer(LINE, shop.consumer(mode, fair=True, dispatch_messages=9))
    await shop.clock.advance(60.5 - shop.clock.now_ms() % 60_000 / 1000)
    await shop.store.append([a_draft(queue=LINE, key=f"{number}") for number in range(7)])
    owner = await shop.store.register_owner(an_owner())
    request = ClaimRequest(queue=LINE, owner=owner, limit=1, calls=1)
    answers = [await shop.store.claim(request) for _ in range(5)]
    assert not any(each.leases for each in answers)
    assert (answers[-1].opens_at or 0) > shop.clock.now_ms()
    if is_changed:
        await shop.change(Dispatch.QUEUE, fair=True)
    else:
        await shop.clock.advance(60)
    gone: list[str | None] = []
    for _ in range(12):
        leases = (await shop.store.claim(request)).leases
        gone += [each.key for each in leases]
        await shop.store.settle(owner, [an_ack(each) for each in leases], ended={LINE: len(leases)})
    assert sorted(map(str, gone)) == [f"{number}" for number in range(7)]


@on_sqlite
async def test_what_was_claimed_ahead_goes_back_when_the_mode_is_changed(shop: Shop) -> None:
    async def claimed() -> int:
        return sum(each.leased for each in await shop.store.peek(LINE, limit=100))

    shop.takes_s = 0.1
    async with shop.at_work(Dispatch.QUEUE, concurrency=2):
        await shop.queue.send_batch(range(60))
        await shop.until(20)
        shop.takes_s = 5
        await shop.pass_time(1)
        assert await claimed() > 5, "as many as it could start within a second, until now"
        await shop.change(Dispatch.ALARM)
        await shop.pass_time(3)
        assert await claimed() <= 2, "no more than run"
        before = len(shop.calls)
        shop.takes_s = 0.1
        await shop.until(before + 5)
        assert [call.number for call in shop.calls] == list(range(len(shop.calls)))
        await shop.change(Dispatch.QUEUE)
        await shop.until(60)
    assert sorted(call.number for call in shop.calls) == list(range(60))


class Ledger:
    """What was promised between two changes of the mode, and what came of it."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._mode = Dispatch.QUEUE
        self._first = 0
        self._held: set[int] = set()
        self.checked = 0

    async def change(self, mode: Dispatch, **settings: object) -> None:
        await self._shop.change(mode, **settings)
        self.close()
        self._mode, self._first = mode, len(self._shop.calls)
        self._held = {int(each.body) for each in await self._shop.store.peek(LINE, limit=1_000) if each.leased}

    def close(self) -> None:
        """A call of what was claimed before the change may begin after it; all others keep the promise."""
        calls = [call for call in self._shop.calls[self._first :] if call.number not in self._held]
        if self._mode in {Dispatch.CRON, Dispatch.ALARM}:
            assert [call.number for call in calls] == sorted(call.number for call in calls)
            assert max((call.beside for call in calls), default=0) == 0
            self.checked += len(calls)


@on_both
async def test_the_mode_changes_while_200_messages_wait_and_run(shop: Shop) -> None:
    """None lost, none twice, and in order wherever the mode says so."""
    async with shop.at_work(Dispatch.QUEUE, {"max_concurrency": 8}, workers=2):
        ledger = Ledger(shop)
        await shop.queue.send_batch(range(100))
        await shop.queue.send_batch(range(100, 200))
        await shop.until(20)
        await ledger.change(Dispatch.ALARM)
        await shop.until(50)
        await ledger.change(Dispatch.CRON, dispatch_messages=10)
        await shop.pass_time(130)
        await ledger.change(Dispatch.IMMEDIATE, max_concurrency=4)
        for number in range(200, 205):
            await shop.queue.send(number)
        await shop.until(110)
        await ledger.change(Dispatch.CRON, dispatch_messages=10)
        await shop.pass_time(70)
        await ledger.change(Dispatch.ALARM)
        await shop.until(150)
        await ledger.change(Dispatch.QUEUE)
        await shop.until(205)
        await shop.pass_time(3)
        ledger.close()
    assert sorted(call.number for call in shop.calls) == list(range(205))
    assert ledger.checked >= 60, "there was something to keep in order"
    assert (await shop.store.metrics(LINE)).backlog_messages == 0
