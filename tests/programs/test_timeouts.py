"""Timeouts that stop: a coroutine is cancelled, a child is killed, a thread is told."""

from __future__ import annotations

import asyncio
import time

import pytest

from conveyor import Conveyor, Job, JobContext, JobState
from kit.fleet import Fleet
from kit.programs import SAY, said, until, until_state, working

pytestmark = pytest.mark.anyio


async def test_a_coroutine_is_cancelled(app: Conveyor) -> None:
    ended: list[str] = []

    @app.job(timeout="0.3s", max_retries=0)
    async def slow(number: int) -> None:
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with working(app):
        job = await slow.enqueue(1)
        await until_state(job, JobState.DEAD)
        assert ended == ["cancelled"]
        assert await lived_s(job) > 0.25
        assert "timeout" in await job.explain()


async def test_a_thread_is_told(app: Conveyor) -> None:
    @app.job(timeout="0.3s", max_retries=0)
    def watchful(number: int, context: JobContext) -> None:
        while not context.is_cancelled:
            time.sleep(0.02)
        context.raise_if_cancelled()

    async with working(app):
        job = await watchful.enqueue(1)
        await until_state(job, JobState.DEAD)
        info = await job.info()
        assert "HandlerTimeoutError" in (info.error or "")
        assert "timeout" in await job.explain()
        assert await lived_s(job) > 0.25


async def lived_s(job: Job[None]) -> float:
    info = await job.info()
    assert info.ended_at is not None and info.started_at is not None
    return (info.ended_at - info.started_at).total_seconds()


APP = (
    SAY
    + """
@app.job(run_in="process", timeout="1s", backoff=0)
def deaf(number: int) -> None:
    say("began", os.getpid())
    while True:
        pass

@app.job(run_in="process")
def warm(number: int) -> None: ...
"""
)


async def test_a_child_is_killed(fleet: Fleet, url: str) -> None:
    fleet.write_app(APP)
    app = Conveyor("shop", url=url)

    @app.job(run_in="process", backoff=0)
    def deaf(number: int) -> None: ...

    @app.job(run_in="process")
    def warm(number: int) -> None: ...

    async with app:
        fleet.work("--processes", "1")
        await (await warm.enqueue(1)).result(60)  # a child is up: a new one may take that second to begin
        job = await deaf.options(max_retries=1).enqueue(1)
        await until_state(job, JobState.DEAD, seconds=60)
        pids = [int(pid) for _, pid in said(fleet.folder, "began")]
        assert pids
        await until(lambda: not any(map(is_alive, pids)))
        assert "timeout" in await job.explain()


def is_alive(pid: int) -> bool:
    import os

    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
