"""Bursts: throttled, debounced, replaced."""

from __future__ import annotations

import asyncio

import pytest

from conveyor import Conveyor, JobState
from kit.programs import until, working

pytestmark = pytest.mark.anyio


async def test_throttle_lets_the_first_of_a_period_go(app: Conveyor) -> None:
    done: list[int] = []

    @app.job()
    async def refresh(number: int) -> None:
        done.append(number)

    async with working(app):
        jobs = [await refresh.throttle("1h").enqueue(number) for number in range(5)]
        assert {each.id for each in jobs} == {jobs[0].id}
        await jobs[0].result(60)
        brief = refresh.throttle("0.5s", unique="brief")
        assert not (await brief.enqueue(10)).deduped
        assert (await refresh.throttle("1h").enqueue(7)).deduped, "its period is not over, though it is done"

        async def goes_again() -> bool:
            return not (await brief.enqueue(99)).deduped

        await until(goes_again)
        await until(lambda: 10 in done and 99 in done)
        assert sorted(done) == [0, 10, 99]


async def test_debounce_lets_the_last_of_a_burst_go(app: Conveyor) -> None:
    done: list[int] = []

    @app.job(unique=lambda number: "even" if number % 2 == 0 else "odd")
    async def index(number: int) -> None:
        done.append(number)

    async with working(app):
        jobs = [await index.debounce("1h" if number < 4 else "0.3s").enqueue(number) for number in range(6)]
        assert not set(done) & {0, 1, 2, 3}
        await until(lambda: len(done) == 2)
        assert sorted(done) == [4, 5]
        assert [await each.state() for each in jobs[:4]] == [JobState.CANCELLED] * 4


async def test_a_running_job_is_not_replaced(app: Conveyor) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    @app.job(unique=lambda number: "one", on_conflict="replace")
    async def build(number: int) -> int:
        if number == 1:
            began.set()
            await go_on.wait()
        return number

    async with working(app):
        first = await build.enqueue(1)
        await began.wait()
        second = await build.enqueue(2)
        assert await second.result(60) == 2
        go_on.set()
        assert await first.result(60) == 1
