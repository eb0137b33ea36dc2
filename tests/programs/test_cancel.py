"""A cancel in each of the eight states."""

from __future__ import annotations

import asyncio

import pytest

from conveyor import Conveyor, JobCancelledError, JobContext, JobState
from kit.programs import until_state, working

pytestmark = pytest.mark.anyio


async def test_cancel_in_every_state(app: Conveyor) -> None:
    began = asyncio.Event()
    ended: list[str] = []

    @app.job(max_retries=1, backoff="1h", errors={KeyError: None, OSError: 0})
    async def act(what: str) -> str:
        if what == "wait":
            began.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append(what)
                raise
        if what != "fine":
            raise {"fail": KeyError, "die": OSError}.get(what, ValueError)(what)
        return what

    async with app:
        queued, scheduled = await act.enqueue("fine"), await act.options(delay="1h").enqueue("fine")
        assert await queued.cancel() is JobState.CANCELLED
        assert await queued.cancel() is JobState.CANCELLED
        assert await scheduled.cancel() is JobState.CANCELLED
    async with working(app):
        succeeded, failed, dead = [await act.enqueue(each) for each in ("fine", "fail", "die")]
        retrying, running = await act.enqueue("retry"), await act.enqueue("wait")
        await until_state(succeeded, JobState.SUCCEEDED)
        await until_state(failed, JobState.FAILED)
        await until_state(dead, JobState.DEAD)
        await until_state(retrying, JobState.RETRYING)
        await began.wait()
        assert await succeeded.cancel() is JobState.SUCCEEDED
        assert await failed.cancel() is JobState.FAILED
        assert await dead.cancel() is JobState.DEAD
        assert await retrying.cancel() is JobState.CANCELLED
        assert await running.cancel() is JobState.RUNNING
        assert (await running.info()).cancel_requested
        with pytest.raises(JobCancelledError):
            await running.result(60)
        assert ended == ["wait"]
        assert await succeeded.result(60) == "fine"
        for each in (queued, scheduled, retrying, running):
            assert await each.state() is JobState.CANCELLED
            assert (await each.info()).timeline[-1].state is JobState.CANCELLED


async def test_a_thread_ends_where_it_looks(app: Conveyor) -> None:
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.job()
    def watch(number: int, context: JobContext) -> None:
        import time

        loop.call_soon_threadsafe(began.set)
        while True:
            time.sleep(0.02)
            context.raise_if_cancelled()

    async with working(app):
        job = await watch.enqueue(1)
        await began.wait()
        await job.cancel()
        await until_state(job, JobState.CANCELLED)
        assert [each.state for each in (await job.info()).timeline] == ["queued", "running", "cancelled"]
