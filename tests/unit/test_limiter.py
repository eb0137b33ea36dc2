"""A limiter: never more within any period, whoever asks and whenever; and a handler that is put off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor import Conveyor, JobContext, Limiter, RateLimited
from conveyor.model.errors import InvalidSettingError
from conveyor.testing.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory://", "sqlite:///{folder}/limits.db"])
async def app(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Conveyor]:
    app = Conveyor("shop", url=request.param.format(folder=tmp_path), clock=clock)
    async with app:
        yield app


async def test_ten_go_and_the_next_is_told_when_there_is_room(app: Conveyor, clock: ManualClock) -> None:
    limiter = app.limiter("veo", "10/m")
    assert [await limiter.take() for _ in range(10)] == [0.0] * 10
    wait_s = await app.limiter("veo", "10/m").take()
    assert 60 <= wait_s <= 61.2
    assert await app.limiter("other", "10/m").take() == 0, "another name is another window"
    await clock.advance(wait_s - 0.001)
    assert await limiter.take() > 0
    await clock.advance(0.001)
    assert await limiter.take() == 0


async def test_no_period_ever_holds_more_and_the_rate_is_used(app: Conveyor, clock: ManualClock) -> None:
    chance, limiter, taken, now_s = random.Random(7), app.limiter("veo", "10/m"), list[float](), 0.0
    while now_s < 600:
        if await limiter.take() == 0:
            taken.append(now_s)
        step_s = round(chance.expovariate(0.5), 3)
        await clock.advance(step_s)
        now_s += step_s
    assert max(sum(begin <= each < begin + 60 for each in taken) for begin in taken) == 10
    assert len(taken) >= 9 * 10


async def test_a_clock_that_is_set_back_closes_nothing_for_long(app: Conveyor, clock: ManualClock) -> None:
    limiter = app.limiter("veo", "10/m")
    await clock.advance(7_200)
    assert [await limiter.take() for _ in range(10)] == [0.0] * 10
    clock.step_back(30)
    wait_s = await limiter.take()
    assert 60 < wait_s <= 92, "what was taken may have been taken a moment ago"
    clock.step_back(3_600)
    assert [await limiter.take() for _ in range(10)] == [0.0] * 10
    wait_s = await limiter.take()
    assert 0 < wait_s <= 61.2
    await clock.advance(wait_s)
    assert await limiter.take() == 0


async def test_a_rest_of_before_the_clock_was_set_back_is_over(app: Conveyor, clock: ManualClock) -> None:
    limiter = app.limiter("veo", "10/m")
    await clock.advance(3 * 86_400)
    await limiter.rest("24h")
    assert await limiter.take() == 86_400
    clock.step_back(2 * 86_400)
    assert await limiter.take() == 0
    await limiter.rest("5s")
    assert await limiter.take() == 5, "one of now holds"


async def test_many_who_ask_at_once_get_no_more_than_there_is(app: Conveyor) -> None:
    waits = await asyncio.gather(*(app.limiter("veo", "10/m").take() for _ in range(40)))
    assert sum(wait_s == 0 for wait_s in waits) == 10


async def test_a_cost_takes_so_many_and_waits_for_all_of_them(app: Conveyor, clock: ManualClock) -> None:
    limiter = app.limiter("tokens", "100/m")
    assert await limiter.take(70) == 0
    assert await limiter.take(31) > 59
    assert await limiter.take(30) == 0
    for cost in (0, 101):
        with pytest.raises(InvalidSettingError, match="cost"):
            await limiter.take(cost)


async def test_names_and_rates_are_checked(app: Conveyor) -> None:
    for name, rate in (("veo", "ten"), ("veo", "0/m"), ("", "10/m")):
        with pytest.raises(InvalidSettingError):
            app.limiter(name, rate)
    assert repr(app.limiter("veo", "10/m")) == "<Limiter 'veo', 10/m>"
    assert isinstance(app.limiter("veo", "10/m"), Limiter)


async def test_require_raises_what_puts_a_message_off(app: Conveyor) -> None:
    limiter = app.limiter("veo", "1/m")
    await limiter.require()
    with pytest.raises(RateLimited) as limited:
        await limiter.require()
    assert limited.value.scope == "key"
    assert 60_000 <= limited.value.after_ms <= 61_200


async def test_a_rest_is_everybody_s_and_ends(app: Conveyor, clock: ManualClock) -> None:
    limiter = app.limiter("veo", "10/m")
    assert await limiter.take() == 0
    await app.limiter("veo", "10/m").rest("40s")
    await limiter.rest(7)
    assert await limiter.take() == 40, "the shorter one changes nothing"
    await clock.advance(40)
    assert [await limiter.take() for _ in range(9)] == [0.0] * 9, "what was taken before is counted on"
    assert 20 <= await limiter.take() <= 21.2
    await clock.advance(21.2)
    assert await limiter.take() == 0


async def test_only_what_asks_is_counted_in_jobs_that_wake_up_to_look() -> None:
    app, orders = Conveyor("shop"), list[float]()

    @app.job(max_retries=0)
    async def make(number: int, context: JobContext) -> int:
        async def order() -> int:
            await app.limiter("maker", "2/m").require()
            orders.append(kit.clock.now_ms() / 1000)
            return number

        await context.step("order", order)
        for look in range(3):
            await context.sleep(f"look-{look}", "5s")
        return number

    async with app.testing() as kit:
        jobs = await make.enqueue_many(range(5))
        for _ in range(40):
            await kit.drain()
            await kit.travel("5s")
        assert [await job.result(0) for job in jobs] == list(range(5))
        assert [(await job.info()).attempts for job in jobs] == [1] * 5, "waiting for room is no attempt"
    assert len(orders) == 5
    assert max(sum(begin <= each < begin + 60 for each in orders) for begin in orders) == 2
    assert orders[-1] - orders[0] <= 130
