"""At most so many of a key at once, over all workers; others go on beside."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from conveyor import Conveyor, JobContext
from kit.programs import until, working

pytestmark = pytest.mark.anyio


async def test_two_of_a_key_at_once(app: Conveyor) -> None:
    app.job_queue("calls", key_concurrency=2)
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @app.job(queue="calls")
    async def call(number: int, context: JobContext) -> None:
        key = context.key or ""
        running[key] += 1
        most[key] = max(most[key], running[key])
        await until(lambda: most[key] >= 2)  # alone until a second one is there
        await asyncio.sleep(0.05)  # and time for a third, that must not be there
        running[key] -= 1

    async with working(app):
        jobs = [await call.options(key=key).enqueue(number) for number in range(6) for key in ("ann", "bob", "cy")]
        for each in jobs:
            await each.result(60)
        assert dict(most) == {"ann": 2, "bob": 2, "cy": 2}


async def test_a_key_has_its_order(app: Conveyor) -> None:
    app.job_queue("accounts", ordered=True)
    done: list[int] = []

    @app.job(queue="accounts", backoff="0.1s")
    async def book(number: int, context: JobContext) -> None:
        if number == 0 and context.attempt == 1:
            raise ConnectionError("again")
        done.append(number)

    async with working(app):
        jobs = [await book.options(key="ann").enqueue(number) for number in range(4)]
        await jobs[-1].result(60)
        assert done == [0, 1, 2, 3]
