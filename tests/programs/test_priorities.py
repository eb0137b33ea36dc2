"""Priorities by name and number; what waits for long is lifted, so that nothing starves."""

from __future__ import annotations

import asyncio

import pytest

from conveyor import Conveyor, InvalidError, Priority
from kit.programs import until, working

pytestmark = pytest.mark.anyio


async def test_higher_goes_first(app: Conveyor) -> None:
    done: list[str] = []

    @app.job()
    async def act(what: str) -> None:
        done.append(what)

    async with app:
        await act.options(priority="low").enqueue("low")
        await act.enqueue("usual")
        await act.options(priority=0).enqueue("zero")
        await act.options(priority="high").enqueue("high")
        await act.options(priority=9).enqueue("nine")
        last = await act.options(priority=Priority.HIGH).enqueue("named")
        with pytest.raises(InvalidError):
            await act.options(priority="urgent").enqueue("x")  # type: ignore[arg-type]  # wrong on purpose
    async with working(app, concurrency=1):
        await last.result(60)
        await until(lambda: len(done) == 6)
    assert done == ["nine", "high", "named", "usual", "low", "zero"]


async def test_low_does_not_starve(url: str) -> None:
    """High ones come faster than they can be done, for as long as it takes."""
    app = Conveyor("shop", url=url)
    app.job_queue("acts", max_concurrency=1, ageing="1s")
    done: list[str] = []

    @app.job(queue="acts")
    async def act(what: str) -> None:
        done.append(what)
        await asyncio.sleep(0.01)

    high = act.options(priority="high")
    async with working(app):
        await high.enqueue_many(["high"] * 50)
        await until(lambda: done)
        await act.options(priority="low").enqueue("low")

        async def flood() -> bool:
            await high.enqueue_many(["high"] * 50)
            await asyncio.sleep(0.1)
            return "low" in done

        await until(flood, seconds=60)
