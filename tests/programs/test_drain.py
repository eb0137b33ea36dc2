"""A worker that is told to end gives back what it has: no attempt is spent by a deployment."""

from __future__ import annotations

import asyncio
import signal

import pytest

from conveyor import Conveyor, JobState
from kit.fleet import Fleet
from kit.programs import SAY, said, until, until_state

ONE_SIGNAL_S = 0.7  # two within half a second are one

pytestmark = pytest.mark.anyio

APP = (
    SAY
    + """
from conveyor import JobContext

@app.job(max_retries=0)
async def work(seconds: float, context: JobContext) -> int:
    say("began", context.attempt)
    if len(open(os.path.join(os.environ["FOLDER"], "said")).readlines()) < 3:
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
        short, long = await work.enqueue(0.3), await work.enqueue(60)
        await until(lambda: len(said(fleet.folder, "began")) == 2)
        fleet.end(first)
        await until_state(short, JobState.SUCCEEDED)  # what can end in time does
        await asyncio.sleep(ONE_SIGNAL_S)
        first.send_signal(signal.SIGTERM)  # and a second one waits for nothing
        assert first.wait(20) == 0
        assert await long.state() is JobState.QUEUED
        fleet.work("--processes", "1")
        assert await long.result(60) == 1
        assert (await long.info()).attempts == 1
