"""Each of the eight states, as a program meets it, and the timeline that leads there."""

from __future__ import annotations

import asyncio

import pytest

from conveyor import Conveyor, JobCancelledError, JobFailedError, JobState, Reject
from kit.programs import until_state, working

pytestmark = pytest.mark.anyio


async def test_every_state_is_reached_and_told(app: Conveyor) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    @app.job(max_retries=1, backoff="0.05s")
    async def act(what: str) -> str:
        if what == "wait":
            began.set()
            await go_on.wait()
        if what == "reject":
            raise Reject("never")
        if what == "break":
            raise ValueError("broken")
        return what

    @app.job(max_retries=1, backoff="1h")
    async def retry_late(what: str) -> None:
        raise ValueError(what)

    async with app:
        queued = await act.enqueue("fine")
        assert await queued.state() is JobState.QUEUED
        scheduled = await act.options(delay="1h").enqueue("later")
        assert await scheduled.state() is JobState.SCHEDULED
        cancelled = await act.options(delay="1h").enqueue("never")
        assert await cancelled.cancel() is JobState.CANCELLED
    async with working(app):
        assert await queued.result(60) == "fine"
        assert await queued.state() is JobState.SUCCEEDED
        running = await act.enqueue("wait")
        await began.wait()
        assert await running.state() is JobState.RUNNING
        go_on.set()
        assert await running.result(60) == "wait"
        failed, dead, retrying = await act.enqueue("reject"), await act.enqueue("break"), await retry_late.enqueue("x")
        await until_state(failed, JobState.FAILED)
        await until_state(dead, JobState.DEAD)
        await until_state(retrying, JobState.RETRYING)
        with pytest.raises(JobFailedError, match="broken"):
            await dead.result(60)
        with pytest.raises(JobCancelledError):
            await cancelled.result(60)
        info = await dead.info()
        assert [each.state for each in info.timeline] == ["queued", "running", "retrying", "running", "dead"]
        assert [each.attempt for each in info.timeline] == [None, 1, 1, 2, 2]
        for ended in (info.timeline[2], info.timeline[4]):
            assert ended.error == "ValueError: broken"
            assert ended.worker and ended.duration_s is not None and 0 <= ended.duration_s < 60
        moments = [each.at for each in info.timeline]
        assert moments == sorted(moments)
        assert await scheduled.state() is JobState.SCHEDULED
