"""Expiry and deadlines: what comes too late does not come at all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from conveyor import Conveyor, InvalidError, JobContext, JobFailedError, JobState, Snooze
from kit.programs import until_state, working

pytestmark = pytest.mark.anyio


async def test_what_has_not_begun_in_time_is_dead(app: Conveyor) -> None:
    ran: list[int] = []

    @app.job(expires_in="0.2s")
    async def late(number: int) -> None:
        ran.append(number)

    async with app:
        job = await late.enqueue(1)
        kept = await late.options(expires_in="1h").enqueue(2)
        await asyncio.sleep(0.3)
    async with working(app):
        await kept.result(60)
        await until_state(job, JobState.DEAD)
        assert ran == [2]
        assert "expired" in await job.explain()
        with pytest.raises(JobFailedError, match="expired"):
            await job.result(60)


async def test_a_deadline_cuts_the_attempt_that_it_meets(app: Conveyor) -> None:
    left: list[float] = []

    @app.job(max_retries=9, backoff=0, timeout="1h")
    async def slow(number: int, context: JobContext) -> None:
        assert context.deadline is not None
        left.append(context.time_left)
        await asyncio.sleep(3_000)

    async with working(app):
        for deadline_s in (1.2, 6, 30):  # a machine that is busy meets the first before it begins
            job = await slow.options(deadline=deadline_s).enqueue(1)
            with pytest.raises(JobFailedError, match="deadline"):
                await job.result(60)
            if left:
                break
        info = await job.info()
        assert info.state is JobState.DEAD and info.attempts == 1
        assert info.ended_at is not None
        assert info.ended_at - info.enqueued_at > timedelta(seconds=deadline_s - 0.2)
        assert 0 < left[0] <= deadline_s
        assert "deadline" in await job.explain()


async def test_no_attempt_begins_that_would_end_too_late(app: Conveyor) -> None:
    ran: list[str] = []

    @app.job(max_retries=9, backoff="1h")
    async def act(what: str) -> None:
        ran.append(what)
        if what == "snooze":
            raise Snooze("1h")
        raise ValueError(what)

    async with app:
        waited = await act.options(deadline="0.1s").enqueue("waited")
        await asyncio.sleep(0.2)
    async with working(app):
        fails = await act.options(deadline="1m").enqueue("fails")
        snoozes = await act.options(deadline=datetime.now(UTC) + timedelta(minutes=1)).enqueue("snooze")
        for job in (waited, fails, snoozes):
            await until_state(job, JobState.DEAD, seconds=50)  # so before the deadline
            assert "deadline" in await job.explain()
        assert sorted(ran) == ["fails", "snooze"]
        assert "ValueError: fails" in await fails.explain()


async def test_a_deadline_that_is_none_of_it(app: Conveyor) -> None:
    @app.job(deadline="1m")
    async def give(number: int, context: JobContext) -> bool:
        return context.deadline is not None and context.deadline > datetime.now(UTC)

    async with working(app):
        assert await (await give.enqueue(1)).result(60)
        with pytest.raises(InvalidError):
            give.options(deadline=0)
        with pytest.raises(InvalidError):
            await give.options(deadline=datetime.now(UTC) - timedelta(seconds=1)).enqueue(1)
