"""Schedules whose processes are killed, stopped, absent and edited: each tick becomes one message, by the newest rule
(F54 to F56)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence

import pytest

from conveyor.cron.schedule import Misfire
from conveyor.cron.scheduler import MISSED_TICKS_MAX, Scheduler
from conveyor.store.protocol import Store
from conveyor.store.records import Fired
from conveyor.store.urls import make_store
from conveyor.testing.clock import ManualClock
from kit.campaign import SEED, Report, sizes
from kit.fleet import Fleet
from kit.history import What
from kit.ticking import Every, a_scheduler, count_messages, count_runs, make_queue

PERIOD_MS = 100
SCHEDULING = """
from kit.ticking import Every, a_scheduler

async def life(store, number, history):
    def tell(event):
        history.note(What.SENT, event.tick)
    scheduler = a_scheduler(store, Every({period}), emit=tell)
    await scheduler.declare()
    running = asyncio.create_task(scheduler.run())
    while not is_over():
        await asyncio.sleep(0.02)
        assert not running.done(), running
    running.cancel()
    await asyncio.wait([running])
"""


@pytest.mark.parametrize("kills", sizes(4, 300))
def test_each_tick_is_fired_once_whoever_is_killed_or_stopped(fleet: Fleet, report: Report, kills: int) -> None:
    """F54: three schedulers; while one is killed, another is stopped over the next ticks."""
    fleet.ask(make_queue)
    fleet.run_herd(
        SCHEDULING.format(period=PERIOD_MS), kills=kills, seed=SEED, count=3, pause_s=(0.2, 0.6), freeze_s=0.25, news=60
    )
    messages = fleet.ask(count_messages)
    expected = range(min(messages), max(messages) + 1, PERIOD_MS)
    told = [int(line.n) for line in fleet.history() if line.what is What.SENT]
    late = sorted(fleet.ask(_lateness))
    report("F54", None, kills=kills, ticks=len(messages), late_ms_p99=late[len(late) * 99 // 100])
    assert set(messages.values()) == {1}, "CRON_DUPLICATE"
    assert sorted(messages) == list(expected), "CRON_MISSED"
    assert len(told) == len(set(told)) <= len(messages)


async def _lateness(store: Store) -> list[int]:
    return [run.fired_at - run.tick for run in await store.list_runs("tick", limit=1_000)]


@pytest.mark.parametrize(
    ("misfire", "sent", "missed"), [(Misfire.NONE, 0, 1), (Misfire.LATEST, 1, 0), (Misfire.ALL, MISSED_TICKS_MAX, 0)]
)
def test_four_hours_without_schedulers_are_made_good_by_the_rule(url: str, misfire: Misfire, sent: int, missed: int) -> None:
    """F55: 120 ticks were missed, the last of them by more than a minute."""
    clock = ManualClock()

    async def live() -> tuple[int, int]:
        for is_back in (False, True):
            store = make_store(url, clock=clock)
            await store.open()
            await make_queue(store)
            scheduler = a_scheduler(store, Every(120_000, offset_ms=30_000), misfire=misfire, emit=lambda _: None)
            await scheduler.declare()
            await scheduler.fire_due()
            if not is_back:
                await store.close()
                await clock.advance(4 * 3_600)
        found = sum((await count_messages(store)).values()), (await count_runs(store))["missed"]
        await store.close()
        return found

    assert asyncio.run(live()) == (sent, missed)


class Asked:
    """What schedulers asked for, when, and what came of it."""

    def __init__(self) -> None:
        self.fired: list[tuple[float, float, int, Fired]] = []
        """When it was asked and answered, by which version, and the outcome."""
        self.declared: list[float] = []
        """When each version was there, the first first."""
        self.paused: list[tuple[float, float]] = []
        """From a confirmed pause to the asking for its end."""

    @property
    def sent(self) -> int:
        return sum(outcome is Fired.SENT for *_, outcome in self.fired)


@pytest.mark.parametrize("edits", sizes(20, 200))
def test_an_edit_or_a_pause_in_the_middle_of_a_tick_holds_at_once(fleet: Fleet, report: Report, edits: int) -> None:
    """F56: old and new code fire side by side."""
    asked = asyncio.run(race(fleet.url, edits))
    outcomes = [outcome for *_, outcome in asked.fired]
    messages = fleet.ask(count_messages)
    report("F56", None, edits=edits, sent=outcomes.count(Fired.SENT), stale=outcomes.count(Fired.STALE))
    assert set(messages.values()) == {1}, "CRON_DUPLICATE"
    assert outcomes.count(Fired.SENT) <= len(messages) <= outcomes.count(Fired.SENT) + edits, "some ended unheard"
    sent = [each for each in asked.fired if each[-1] is Fired.SENT]
    late = [at for at, _, version, _ in sent if version < len(asked.declared) and at > asked.declared[version]]
    assert not late, "an old rule fired after a newer one was there"
    paused = [at for at, done, *_ in sent if any(begin < at and done < end for begin, end in asked.paused)]
    assert not paused, "fired while paused"
    assert outcomes.count(Fired.SENT) > edits // 4


async def race(url: str, edits: int) -> Asked:
    asked, chance = Asked(), random.Random(SEED)
    async with contextlib.AsyncExitStack() as stack:
        stores = [make_store(url) for _ in range(4)]
        for store in stores:
            await store.open()
            stack.push_async_callback(store.close)
        await make_queue(stores[0])
        running: list[asyncio.Task[None]] = []
        for number in range(edits):
            scheduler = a_scheduler(stores[number % 3], Every(10, offset_ms=number % 7), emit=lambda _: None)
            await scheduler.declare()
            asked.declared.append(time.monotonic())
            running.append(asyncio.create_task(_fire(scheduler, stores[number % 3], asked, number + 1)))
            await _meddle(stores[3], asked, chance)
            sent = asked.sent
            while number % 3 == 0 and asked.sent == sent:  # on a busy machine nothing may have been fired meanwhile
                await stores[3].clock.sleep(0.002)
            await _end(running[:-3])
            del running[:-3]
        await _end(running)
    return asked


async def _fire(scheduler: Scheduler, store: Store, asked: Asked, version: int) -> None:
    """As its own loop does, but each firing is noted. An old one looks at the schedule and fires what it read before."""
    [declared] = scheduler._declared.values()
    while True:
        schedule = await store.get_schedule("tick")
        at, tick = time.monotonic(), store.clock.now_ms()
        following = declared.expression.next_after(tick)
        outcome = await scheduler.fire(declared, tick, next_tick=following or schedule.next_tick)
        asked.fired.append((at, time.monotonic(), version, outcome))
        await store.clock.sleep(0.002)


async def _meddle(operator: Store, asked: Asked, chance: random.Random) -> None:
    await operator.clock.sleep(chance.uniform(0.005, 0.03))
    if chance.random() < 0.5:
        await operator.pause_schedule("tick")
        begin = time.monotonic()
        await operator.clock.sleep(chance.uniform(0.005, 0.02))
        asked.paused.append((begin, time.monotonic()))
        await operator.resume_schedule("tick", operator.clock.now_ms())


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        assert not task.done(), task
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
