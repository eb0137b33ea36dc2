"""Dead jobs come back: one by one with another payload, or many at a rate."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from conveyor import Conveyor, InvalidError, Job, JobContext, JobNotRetriableError, JobState, Retry
from kit.programs import until, until_state, working

pytestmark = pytest.mark.anyio


@dataclass
class Mail:
    to: str


async def test_an_edited_payload_is_tried_again(app: Conveyor) -> None:
    @app.job(max_retries=0)
    async def send(mail: Mail) -> str:
        if "@" not in mail.to:
            raise ValueError("no address")
        return mail.to

    async with working(app):
        job = await send.enqueue(Mail("ann"))
        await until_state(job, JobState.DEAD)
        with pytest.raises(InvalidError):
            await job.retry(Mail(to=object()))  # type: ignore[arg-type]  # wrong on purpose
        await job.retry(Mail("ann@example.com"))
        assert await job.result(60) == "ann@example.com"
        assert [each.state for each in (await job.info()).timeline][-2:] == ["running", "succeeded"]
        with pytest.raises(JobNotRetriableError):
            await job.retry()


async def test_who_comes_back_has_no_more_tries_than_before(app: Conveyor) -> None:
    begun: Counter[str] = Counter()

    @app.job(queue="mails", max_retries=1, backoff=0)
    async def fails(name: str) -> None:
        begun[name] += 1
        raise ConnectionError("down")

    @app.job(queue="mails", max_retries=1)
    async def asks(name: str) -> Retry:
        begun[name] += 1
        return Retry(0)

    @app.job(queue="mails", max_retries=1, backoff=0, timeout="0.1s")
    def hangs(name: str, context: JobContext) -> None:
        begun[name] += 1
        while not context.is_cancelled:
            time.sleep(0.01)
        context.raise_if_cancelled()

    @app.job(queue="mails", max_retries=5, backoff=0)
    async def other(name: str) -> None: ...

    async with working(app):
        jobs: list[Job[Any]] = [await fails.enqueue("fails"), await asks.enqueue("asks"), await hangs.enqueue("hangs")]
        jobs.append(await fails.options(max_retries=2).enqueue("has its own"))
        for job in jobs:
            await until_state(job, JobState.DEAD)
        before = dict(begun)
        for job in jobs:
            await job.retry()
        await until(lambda: all(begun[name] > count for name, count in before.items()))
        for job in jobs:
            await until_state(job, JobState.DEAD)
        assert before == {"fails": 2, "asks": 2, "hangs": 2, "has its own": 3}
        assert begun == {name: 2 * count for name, count in before.items()}, "and none as often as its queue allows"
        assert [(await job.info()).attempts for job in jobs] == [2, 2, 2, 3]


async def test_many_come_back_by_filter_at_a_rate(app: Conveyor) -> None:
    healthy = False

    @app.job(max_retries=0)
    async def call(number: int) -> int:
        if number == 99:
            raise KeyError(number)
        if not healthy:
            raise ConnectionError("down")
        return number

    async with working(app):
        jobs = await call.enqueue_many([*range(10), 99])
        for job in jobs:
            await until_state(job, JobState.DEAD)
        healthy = True
        down = next(each for each in await app.jobs.errors() if "down" in each.error)
        began = time.monotonic()
        assert await app.jobs.retry(name="call", error=down.fingerprint, rate="20/s") == 10
        assert time.monotonic() - began > 0.4, "ten, with a twentieth of a second between them"
        assert await asyncio.gather(*(job.result(60) for job in jobs[:10])) == list(range(10))
        assert await jobs[-1].state() is JobState.DEAD
        assert await app.jobs.retry(name="call", state=JobState.SUCCEEDED) == 0, "that did not fail"
        assert await jobs[-1].state() is JobState.DEAD
        assert await app.jobs.retry(name="call", limit=5) == 1
        healthy = False
        more = await call.enqueue_many(range(4))
        for job in more:
            await until_state(job, JobState.DEAD)
        healthy = True
        assert await app.jobs.retry(name="call", error=down.fingerprint, limit=3) == 3
        assert await more[0].state() is JobState.DEAD, "newest first, and no more than was said"
