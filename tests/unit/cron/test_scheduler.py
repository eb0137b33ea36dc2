"""Ticks become runs: each once, whoever fires it, and as the schedule's rules say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conveyor.cron.schedule import CronRun, Declared, Tick, read_declared
from conveyor.cron.scheduler import MISSED_TICKS_MAX, CronHandler, Scheduler
from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.cron_expression import CronExpression
from conveyor.model.duration import HOUR_MS, MINUTE_MS
from conveyor.model.errors import QueueFullError, StoreFullError
from conveyor.model.events import Event, ScheduleDelayed, ScheduleFailed, ScheduleFired
from conveyor.model.ids import IdSource
from conveyor.model.message import Lease, Peeked
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, RateLimited, Settlement
from conveyor.queue.delivery import Message
from conveyor.store.memory import MemoryStore
from conveyor.store.protocol import Store
from conveyor.store.records import ClaimRequest, Fired, OwnerInfo, Run, RunStatus
from conveyor.store.sqlite import SQLiteStore
from conveyor.testing.clock import NOON_MS, ManualClock

pytestmark = pytest.mark.anyio

QUEUE = "shop-cron"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    store: Store = MemoryStore(clock) if request.param == "memory" else SQLiteStore(tmp_path / "cron.db", clock=clock)
    await store.open()
    await prepare(store)
    yield store
    await store.close()


async def prepare(store: Store) -> None:
    settings = ConsumerSettings(
        script="shop", max_batch_size=1, max_retries=0, ordered=True, dead_letter_queue=f"{QUEUE}-dlq"
    )
    await store.declare_consumer(QUEUE, settings)


def declare(expression: str = "*/10 * * * *", *, timezone: str = "UTC", **options: Any) -> Declared:
    """A schedule named `tidy`."""
    rules = {"name": "tidy", "misfire": "latest", "overlap": "allow", "jitter": 0, "max_retries": 0, **options}
    return read_declared(rules.pop("function", note), CronExpression.parse(expression, timezone=timezone), **rules)


async def note(run: CronRun) -> None:
    """Scheduled, and idle."""


async def a_scheduler(store: Store, *declared: Declared, events: list[Event] | None = None) -> Scheduler:
    heard: list[Event] = [] if events is None else events
    scheduler = Scheduler(
        store,
        IdSource(store.clock),
        "shop",
        QUEUE,
        declared or (declare(),),
        emit=heard.append,
        chance=random.Random(1),
    )
    await scheduler.declare()
    return scheduler


async def messages(store: Store) -> list[Peeked]:
    return await store.peek(QUEUE, limit=1_000)


async def ticks(store: Store) -> list[str]:
    found = [msgspec.json.decode(each.body, type=Tick) for each in await messages(store)]
    return [f"{datetime.fromtimestamp(each.tick / 1000, UTC):%d %H:%M}" for each in found]


async def runs(store: Store) -> list[Run]:
    return (await store.list_runs("tidy", limit=1_000))[::-1]


async def statuses(store: Store) -> list[str]:
    return [each.status.value for each in await runs(store)]


class Crew:
    """One worker's hands: claims a schedule's message and gives it to the handler."""

    def __init__(self, store: Store, owner: int) -> None:
        self.store = store
        self.owner = owner

    async def claim(self) -> list[Lease]:
        return (await self.store.claim(ClaimRequest(queue=QUEUE, owner=self.owner, limit=100))).leases

    async def settle(self, lease: Lease, action: Action = Action.ACK) -> None:
        await self.store.settle(self.owner, [Settlement(lease.seq, lease.claim, action)])

    async def handle(self, lease: Lease, *declared: Declared, emit: Callable[[Event], None] = lambda _: None) -> None:
        async def is_open() -> None: ...

        handler = CronHandler(self.store, is_open, {each.name: each for each in declared}, emit)
        await handler(Message(lease, msgspec.json.decode(lease.body, type=Tick), None))


@pytest.fixture
async def crew(store: Store) -> Crew:
    return Crew(store, await store.register_owner(OwnerInfo(app="shop", host="here", pid=1, supervisor_pid=1)))


# Firing


async def test_due_tick_becomes_one_message_and_one_run(store: Store, clock: ManualClock) -> None:
    events: list[Event] = []
    scheduler = await a_scheduler(store, events=events)
    assert await scheduler.fire_due() == 5.0
    assert await messages(store) == []
    await clock.advance(9 * 60 + 59)
    assert await scheduler.fire_due() == 1.0
    await clock.advance(1)
    await scheduler.fire_due()
    await scheduler.fire_due()
    assert await ticks(store) == ["01 12:10"]
    [run] = await runs(store)
    assert (run.tick, run.trigger, run.status) == (NOON_MS + 10 * MINUTE_MS, "schedule", RunStatus.QUEUED)
    assert run.correlation_id == f"cron-{run.tick}"
    assert events == [ScheduleFired(schedule="tidy", tick=run.tick, outcome="sent")]


async def test_run_sleeps_until_each_tick(store: Store, clock: ManualClock) -> None:
    scheduler = await a_scheduler(store, declare("* * * * *"))
    running = asyncio.create_task(scheduler.run())
    for _ in range(40):  # a SQLite answer comes from a thread
        await clock.advance(5)
        await store.list_queues()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await ticks(store))[:3] == ["01 12:01", "01 12:02", "01 12:03"]


@pytest.mark.parametrize(
    ("misfire", "sent", "recorded"),
    [("none", [], ["missed"]), ("latest", ["01 13:50"], ["queued"]), ("all", [f"01 {h}:{m}0" for h in (12, 13) for m in range(6)][1:], ["queued"] * 11)],
)  # fmt: skip
async def test_missed_ticks_go_by_the_misfire_rule(
    store: Store, clock: ManualClock, misfire: str, sent: list[str], recorded: list[str]
) -> None:
    scheduler = await a_scheduler(store, declare(misfire=misfire))
    await clock.advance(115 * 60)
    await scheduler.fire_due()
    assert await ticks(store) == sent
    assert await statuses(store) == recorded
    assert (await store.get_schedule("tidy")).next_tick == NOON_MS + 2 * HOUR_MS


async def test_misfire_none_still_fires_what_is_only_late(store: Store, clock: ManualClock) -> None:
    scheduler = await a_scheduler(store, declare(misfire="none"))
    await clock.advance(10 * 60 + 59)
    await scheduler.fire_due()
    assert await ticks(store) == ["01 12:10"]


async def test_misfire_all_is_bounded_to_the_newest(store: Store, clock: ManualClock) -> None:
    scheduler = await a_scheduler(store, declare("* * * * *", misfire="all"))
    await clock.advance(500 * 60)
    await scheduler.fire_due()
    fired = [each.tick for each in await runs(store)]
    assert len(fired) == MISSED_TICKS_MAX
    assert fired == [NOON_MS + minute * MINUTE_MS for minute in range(401, 501)]


async def test_overlap_skip_waits_for_the_message_to_be_final(store: Store, clock: ManualClock, crew: Crew) -> None:
    scheduler = await a_scheduler(store, declare(overlap="skip"))
    await clock.advance(600)
    await scheduler.fire_due()
    [lease] = await crew.claim()
    await clock.advance(600)
    await store.renew_owners([crew.owner])
    await scheduler.fire_due()
    assert await statuses(store) == ["queued", "skipped"]
    await crew.settle(lease)
    await clock.advance(600)
    await scheduler.fire_due()
    assert len(await messages(store)) == 1
    assert (await statuses(store))[2] == "queued"


async def test_overlap_skip_sees_a_run_that_failed_and_is_retried(store: Store, clock: ManualClock, crew: Crew) -> None:
    async def fail(run: CronRun) -> None:
        raise OSError

    declared = declare(overlap="skip", max_retries=3, function=fail)
    scheduler = await a_scheduler(store, declared)
    await clock.advance(600)
    await scheduler.fire_due()
    [lease] = await crew.claim()
    with pytest.raises(OSError):
        await crew.handle(lease, declared)
    await crew.settle(lease, Action.RETRY)
    await clock.advance(600)
    await scheduler.fire_due()
    assert (await statuses(store))[1] == "skipped"


async def test_overlap_allow_sends_beside_the_running_one(store: Store, clock: ManualClock, crew: Crew) -> None:
    scheduler = await a_scheduler(store)
    for _ in range(2):
        await clock.advance(600)
        await scheduler.fire_due()
    assert len(await crew.claim()) == 2


async def test_overlap_queue_runs_one_after_another(store: Store, clock: ManualClock, crew: Crew) -> None:
    scheduler = await a_scheduler(store, declare(overlap="queue"))
    for _ in range(2):
        await clock.advance(600)
        await scheduler.fire_due()
    await store.renew_owners([crew.owner])
    [first] = await crew.claim()
    assert await crew.claim() == []
    await crew.settle(first)
    [second] = await crew.claim()
    assert second.seq > first.seq


async def test_jitter_delays_the_message_and_not_the_tick(store: Store, clock: ManualClock) -> None:
    scheduler = await a_scheduler(store, declare("* * * * *", jitter="30s", misfire="all"))
    await clock.advance(60 * 60)
    await scheduler.fire_due()
    found = await messages(store)
    delays = {each.ready_at - clock.now_ms() for each in found}
    assert len(delays) > 30
    assert all(0 <= delay <= 30_000 for delay in delays)
    assert all(run.tick % MINUTE_MS == 0 for run in await runs(store))


async def test_three_schedulers_on_one_file_fire_each_tick_once(tmp_path: Path, clock: ManualClock) -> None:
    stores = [SQLiteStore(tmp_path / "cron.db", clock=clock) for _ in range(3)]
    events: list[Event] = []
    schedulers = []
    for store in stores:
        await store.open()
        await prepare(store)
        schedulers.append(await a_scheduler(store, declare("* * * * *"), events=events))
    for _ in range(30):
        await clock.advance(60)
        await asyncio.gather(*(each.fire_due() for each in schedulers))
    assert await ticks(stores[0]) == [f"01 12:{minute:02}" for minute in range(1, 31)]
    assert len(events) == 30
    for store in stores:
        await store.close()


async def test_older_version_fires_nothing_more(store: Store, clock: ManualClock) -> None:
    older = await a_scheduler(store, declare("*/10 * * * *"))
    newer = await a_scheduler(store, declare("*/15 * * * *"))
    await clock.advance(16 * 60)
    await older.fire_due()
    assert await messages(store) == []
    assert await older.fire(declare(), NOON_MS) is Fired.STALE
    await newer.fire_due()
    assert await ticks(store) == ["01 12:15"]


async def test_same_declaration_keeps_its_next_tick(store: Store, clock: ManualClock) -> None:
    await a_scheduler(store)
    await clock.advance(30 * 60)
    again = await a_scheduler(store)
    await again.fire_due()
    assert await ticks(store) == ["01 12:30"]


async def test_changed_declaration_starts_from_now(store: Store, clock: ManualClock) -> None:
    await a_scheduler(store)
    await clock.advance(31 * 60)
    changed = await a_scheduler(store, declare("*/15 * * * *"))
    await changed.fire_due()
    assert await ticks(store) == []


async def test_paused_schedule_rests_and_resumes_without_what_it_missed(store: Store, clock: ManualClock) -> None:
    scheduler = await a_scheduler(store, declare(misfire="all"))
    await store.pause_schedule("tidy")
    await clock.advance(35 * 60)
    await scheduler.fire_due()
    assert await runs(store) == []
    await store.resume_schedule("tidy", CronExpression.parse("*/10 * * * *").next_after(clock.now_ms()))
    await scheduler.fire_due()
    assert await runs(store) == []
    await clock.advance(5 * 60)
    await scheduler.fire_due()
    assert await ticks(store) == ["01 12:40"]


async def test_trigger_runs_now_also_while_paused(store: Store, clock: ManualClock) -> None:
    scheduler = await a_scheduler(store, declare(jitter="30m"))
    await store.pause_schedule("tidy")
    before = (await store.get_schedule("tidy")).next_tick
    assert await scheduler.trigger("tidy") == f"manual-{NOON_MS}"
    assert await scheduler.trigger("tidy", "order-66") == "order-66"
    assert [(each.trigger, each.correlation_id, each.tick) for each in await runs(store)] == [
        ("manual", f"manual-{NOON_MS}", NOON_MS),
        ("manual", "order-66", NOON_MS + 1),
    ]
    assert {each.ready_at for each in await messages(store)} == {NOON_MS}
    assert (await store.get_schedule("tidy")).next_tick == before
    with pytest.raises(ScheduleNotFoundError):
        await scheduler.trigger("nightly")


async def test_full_queue_delays_one_schedule_and_not_the_others(store: Store, clock: ManualClock) -> None:
    events: list[Event] = []
    await store.update_queue(QUEUE, QueueSettings(max_backlog_messages=1))
    scheduler = await a_scheduler(
        store, declare(name="a"), declare(name="b"), declare("0 0 1 1 *", name="c"), events=events
    )
    await clock.advance(600)
    await scheduler.fire_due()
    assert [each.schedule for each in events if isinstance(each, ScheduleFired)] == ["a"]
    assert [each.error.partition(":")[0] for each in events if isinstance(each, ScheduleDelayed)] == ["b"]
    await store.purge(QUEUE)
    await scheduler.fire_due()
    assert [each.schedule for each in events if isinstance(each, ScheduleFired)] == ["a", "b"]
    assert QueueFullError.code == "queue_full"


async def test_expression_without_a_tick_in_sight_never_fires(store: Store, clock: ManualClock) -> None:
    """2100 is no leap year, so from March 2096 the next 29 February is eight years away."""
    declared = declare("0 0 29 2 *")
    await clock.advance(datetime(2096, 3, 1, tzinfo=UTC).timestamp() - NOON_MS / 1000)
    assert declared.expression.next_after(clock.now_ms()) is None
    scheduler = await a_scheduler(store, declared)
    for _ in range(7):
        await clock.advance(365 * 86_400)
        await scheduler.fire_due()
    assert await messages(store) == []
    assert set(await statuses(store)) == {"missed"}
    await clock.advance(365 * 86_400)
    await scheduler.fire_due()
    assert await ticks(store) == ["29 00:00"]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2026-03-28T12:00:00+00:00", ["29 01:00"]),  # 02:30 is in the gap: the first moment after it
        ("2026-10-24T12:00:00+00:00", ["25 00:30"]),  # 02:30 comes twice: the first time only
    ],
)
async def test_fixed_time_runs_once_on_days_when_the_clocks_change(start: str, expected: list[str]) -> None:
    clock = ManualClock(round(datetime.fromisoformat(start).timestamp() * 1000))
    store = MemoryStore(clock)
    await store.open()
    await prepare(store)
    scheduler = await a_scheduler(store, declare("30 2 * * *", timezone="Europe/Berlin", misfire="all"))
    for _ in range(48):
        await clock.advance(1_800)
        await scheduler.fire_due()
    assert await ticks(store) == expected


# Running


async def test_run_s_history_tells_how_it_went(store: Store, clock: ManualClock, crew: Crew) -> None:
    given: list[CronRun] = []

    async def work(run: CronRun) -> None:
        given.append(run)
        await clock.advance(2.5)

    declared = declare(function=work)
    scheduler = await a_scheduler(store, declared)
    await scheduler.trigger("tidy", "order-66")
    [lease] = await crew.claim()
    await crew.handle(lease, declared)
    await crew.settle(lease)
    [run] = await runs(store)
    assert (run.status, run.correlation_id, run.error) == (RunStatus.SUCCEEDED, "order-66", None)
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.finished_at - run.started_at == 2_500
    assert given == [
        CronRun(
            name="tidy", tick=datetime.fromtimestamp(NOON_MS / 1000, UTC), trigger="manual",
            correlation_id="order-66", attempt=1,
        )
    ]  # fmt: skip


async def test_failure_is_recorded_and_told(store: Store, crew: Crew) -> None:
    events: list[Event] = []

    def fail(run: CronRun) -> None:
        raise ValueError("no paper")

    declared = declare(function=fail)
    await (await a_scheduler(store, declared)).trigger("tidy")
    [lease] = await crew.claim()
    with pytest.raises(ValueError, match="no paper"):
        await crew.handle(lease, declared, emit=events.append)
    [run] = await runs(store)
    assert (run.status, run.error) == (RunStatus.FAILED, "ValueError: no paper")
    assert [type(each) for each in events] == [ScheduleFailed]


async def test_retry_that_goes_well_clears_the_failure(store: Store, clock: ManualClock, crew: Crew) -> None:
    moods = [ValueError("no paper"), None]

    async def fickle(run: CronRun) -> None:
        if (mood := moods.pop(0)) is not None:
            raise mood

    declared = declare(function=fickle, max_retries=1)
    await (await a_scheduler(store, declared)).trigger("tidy")
    [lease] = await crew.claim()
    with pytest.raises(ValueError, match="no paper"):
        await crew.handle(lease, declared)
    await crew.settle(lease, Action.RETRY)
    [lease] = await crew.claim()
    await crew.handle(lease, declared)
    await crew.settle(lease)
    [run] = await runs(store)
    assert (run.status, run.error) == (RunStatus.SUCCEEDED, None)


async def test_run_that_died_without_a_word_has_failed(store: Store, crew: Crew) -> None:
    await (await a_scheduler(store)).trigger("tidy")
    [lease] = await crew.claim()
    await store.begin_run("tidy", NOON_MS)
    assert await statuses(store) == ["running"]
    await crew.settle(lease, Action.REJECT)
    [run] = await runs(store)
    assert run.status is RunStatus.FAILED
    assert run.error


async def test_callable_object_whose_call_is_async_is_awaited(store: Store, crew: Crew) -> None:
    calls: list[str] = []

    class Broom:
        async def __call__(self, run: CronRun) -> None:
            calls.append(run.name)

    declared = declare(function=Broom())
    await (await a_scheduler(store, declared)).trigger("tidy")
    [lease] = await crew.claim()
    await crew.handle(lease, declared)
    assert calls == ["tidy"]


async def test_store_that_refuses_a_run_s_beginning_costs_no_attempt(
    store: Store, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(schedule: str, tick: int) -> None:
        raise StoreFullError("cron.db")

    declared = declare()
    await (await a_scheduler(store, declared)).trigger("tidy")
    [lease] = await crew.claim()
    monkeypatch.setattr(store, "begin_run", refuse)
    with pytest.raises(RateLimited):
        await crew.handle(lease, declared)


async def test_run_that_went_well_does_not_fail_for_want_of_its_history(
    store: Store, clock: ManualClock, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, refusals = store.finish_run, [StoreFullError("cron.db")]

    async def refuse_once(schedule: str, tick: int, *, error: str | None) -> None:
        if refusals:
            raise refusals.pop()
        await finish(schedule, tick, error=error)

    declared = declare()
    await (await a_scheduler(store, declared)).trigger("tidy")
    [lease] = await crew.claim()
    monkeypatch.setattr(store, "finish_run", refuse_once)
    handling = asyncio.create_task(crew.handle(lease, declared))
    while not clock.sleepers:
        await asyncio.sleep(0)
    await clock.advance(1)
    await handling
    assert await statuses(store) == ["succeeded"]
