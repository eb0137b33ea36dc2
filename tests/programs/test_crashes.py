"""What is left of each state when every process of the shop is killed at once."""

from __future__ import annotations

import os
import signal

import pytest

from conveyor import Conveyor, JobFunction, JobState
from kit.fleet import Fleet
from kit.programs import SAY, said, until, until_state

pytestmark = pytest.mark.anyio

APP = (
    SAY
    + """
from conveyor import JobContext

@app.job(max_retries=3, backoff=0)
async def work(what: str, context: JobContext) -> str:
    say("began", what, os.getpid(), context.attempt)
    if what == "hang" and context.attempt == 1:
        await asyncio.sleep(60)
    if what == "break":
        raise ValueError("broken")
    return what

@app.job(max_retries=3, backoff="1h")
async def wait_long(what: str) -> str:
    raise ValueError("later")
"""
)


def declare(url: str) -> tuple[Conveyor, JobFunction[str, str], JobFunction[str, str]]:
    """The same jobs for the client: it sends and reads."""
    app = Conveyor("shop", url=url)

    @app.job(max_retries=3, backoff=0)
    async def work(what: str) -> str:
        raise NotImplementedError

    @app.job(max_retries=3, backoff="1h")
    async def wait_long(what: str) -> str:
        raise NotImplementedError

    return app, work, wait_long


async def test_a_crash_leaves_every_job_in_a_true_state(fleet: Fleet, url: str) -> None:
    fleet.write_app(APP)
    app, work, wait_long = declare(url)
    async with app:
        tree = fleet.work("--processes", "1")
        succeeded, dead = await work.enqueue("fine"), await work.enqueue("break")
        scheduled = await work.options(delay="1h").enqueue("scheduled")
        retrying, running = await wait_long.enqueue("x"), await work.enqueue("hang")
        await until_state(succeeded, JobState.SUCCEEDED)
        await until_state(dead, JobState.DEAD)
        await until_state(retrying, JobState.RETRYING)
        await until(lambda: [each for each in said(fleet.folder, "began") if each[1] == "hang"])
        assert await running.state() is JobState.RUNNING
        fleet.kill_tree(tree)
        assert await succeeded.result(60) == "fine"
        assert await dead.state() is JobState.DEAD
        assert await scheduled.state() is JobState.SCHEDULED
        assert await retrying.state() is JobState.RETRYING
        queued = await work.enqueue("after")
        assert await queued.state() is JobState.QUEUED
        fleet.work("--processes", "1")
        assert await queued.result(60) == "after"
        assert await running.result(60) == "hang"
        states = [each.state for each in (await running.info()).timeline]
        assert states[0] == "queued" and states[-3:] == ["retrying", "running", "succeeded"]


@pytest.mark.campaign
async def test_a_killed_worker_costs_one_attempt(fleet: Fleet, url: str) -> None:
    fleet.write_app(APP)
    app, work, _ = declare(url)
    async with app:
        fleet.work("--processes", "1")
        job = await work.enqueue("hang")
        await until(lambda: said(fleet.folder, "began"))
        os.kill(int(said(fleet.folder, "began")[0][2]), signal.SIGKILL)
        assert await job.result(60) == "hang"
        info = await job.info()
        assert info.attempts == 2
        assert any("signal 9" in (each.error or "") for each in info.timeline)
