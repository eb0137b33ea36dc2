"""A rate holds over all processes: never more within any period, and hardly less."""

from __future__ import annotations

import asyncio
import time
from itertools import combinations

import pytest

from conveyor import Conveyor
from conveyor.store.urls import make_store
from kit.fleet import Fleet
from kit.programs import SAY, said

pytestmark = pytest.mark.anyio

APP = (
    SAY
    + """
app.job_queue("calls", rate="{rate}")

@app.job(queue="calls")
async def call(number: int) -> None:
    say("called", time.time())
"""
)


LIMITED = (
    SAY
    + """
app.job_queue("calls")

@app.job(queue="calls")
async def call(number: int) -> None:
    await app.limiter("calls", "{rate}").require()
    say("called", time.time())
"""
)


async def enqueue(url: str, count: int) -> None:
    app = Conveyor("shop", url=url)
    app.job_queue("calls", rate="1/s")

    @app.job(queue="calls")
    async def call(number: int) -> None: ...

    async with app:
        await call.enqueue_many(range(count))


def moments(fleet: Fleet, url: str, *, rate: str, count: int, seconds: float, app: str = APP) -> list[float]:
    """When the jobs of three processes began."""
    asyncio.run(enqueue(url, count))
    fleet.write_app(app.format(rate=rate))
    for _ in range(3):
        fleet.work("--processes", "1")
    fleet.wait_until(lambda: len(said(fleet.folder)) >= count, seconds=seconds)
    return sorted(float(words[1]) for words in said(fleet.folder))


def judge(times: list[float], *, most: int, period_s: float) -> None:
    for at, begin in enumerate(times):
        within = sum(begin <= each < begin + period_s - 0.05 for each in times[at:])
        assert within <= most, f"{within} within {period_s} s"


async def looks(url: str, *, count: int) -> list[tuple[float, int, float]]:
    """What was taken of the queue: how much it was, and moments before and after the look. A job says only later that
    it began, on a busy machine much later."""
    store, found = make_store(url), [(0.0, 0, 0.0)]
    await store.open()
    try:
        async with asyncio.timeout(60):
            while found[-1][1] < count:
                await asyncio.sleep(0.01)
                before = time.monotonic()
                waiting = sum(not each.leased for each in await store.peek("calls", limit=count))
                found.append((before, count - waiting, time.monotonic()))
    finally:
        await store.close()
    return found[1:]


def test_a_rate_holds_over_three_processes(fleet: Fleet, url: str) -> None:
    """That it gives hardly less is for the campaign below, on a calm machine."""
    asyncio.run(enqueue(url, 120))
    fleet.write_app(APP.format(rate="50/s"))
    for _ in range(3):
        fleet.work("--processes", "1")
    found = asyncio.run(looks(url, count=120))
    for (before, taken, _), (_, taken_later, after) in combinations(found, 2):
        assert after - before >= 1 or taken_later - taken <= 50
    fleet.wait_until(lambda: len(said(fleet.folder)) >= 120)
    assert len(said(fleet.folder)) == 120


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_fifty_a_minute_over_three_processes_within_two_percent(fleet: Fleet, url: str) -> None:
    times = moments(fleet, url, rate="50/m", count=250, seconds=300)
    judge(times, most=50, period_s=60)
    minutes = (times[-1] - times[0]) / 60
    assert 4 <= minutes <= 4 * 1.02, f"250 at 50/m took {minutes:.2f} min; the last of them begin with the fifth"


@pytest.mark.campaign
def test_a_limiter_holds_over_three_processes(fleet: Fleet, url: str) -> None:
    """What is said is said up to a second after the unit was taken."""
    times = moments(fleet, url, rate="20/4s", count=50, seconds=60, app=LIMITED)
    judge(times, most=20, period_s=3)
    assert 7 <= times[-1] - times[0] < 20, "the third period begins when the second is over"
