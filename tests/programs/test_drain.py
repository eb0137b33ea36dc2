"""A worker that is told to end gives back what it has: no attempt is spent by a deployment."""

from __future__ import annotations

import pytest

from conveyor import Conveyor, JobState
from kit.fleet import Fleet
from kit.programs import SAY, insist, said, until, until_state

pytestmark = pytest.mark.anyio

APP = (
    SAY
    + """
from conveyor import JobContext

@app.job(max_retries=0)
async def work(seconds: float, context: JobContext) -> int:
    say("began", context.attempt)
    while not os.path.exists("ending"):
        await asyncio.sleep(0.01)
    if not os.path.exists("again"):
        await asyncio.sleep(seconds)
    say("ended", context.attempt)
    return context.attempt
"""
)


async def test_a_drain_costs_no_attempt(fleet: Fleet, url: str) -> None:
    fleet.write_app(APP)
    app = Conveyor("shop", url=url)

    @app.job(max_retries=0)
    async def work(seconds: float) -> int:
        raise NotImplementedError

    async with app:
        first = fleet.work("--processes", "1")
        short, long = await work.enqueue(0), await work.enqueue(3_000)
        await until(lambda: len(said(fleet.folder, "began")) == 2)
        fleet.end(first)
        (fleet.folder / "ending").touch()
        await until_state(short, JobState.SUCCEEDED)  # what can end in time does
        assert await insist(first) == 0  # and a second one waits for nothing
        assert await long.state() is JobState.QUEUED
        (fleet.folder / "again").touch()
        fleet.work("--processes", "1")
        assert await long.result(60) == 1
        assert (await long.info()).attempts == 1
