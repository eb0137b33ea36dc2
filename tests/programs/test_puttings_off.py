"""Snooze and RateLimited cost no attempt, and say so."""

from __future__ import annotations

import pytest

from conveyor import Conveyor, JobContext, RateLimited, Retry, Snooze
from kit.programs import until, working

pytestmark = pytest.mark.anyio


async def test_neither_costs_an_attempt(app: Conveyor) -> None:
    attempts: list[int] = []
    said = [Snooze("0.05s", reason="not open yet"), RateLimited("0.05s"), Snooze("0.05s"), Retry("0.05s")]

    @app.job(max_retries=1)
    async def wait(number: int, context: JobContext) -> str:
        attempts.append(context.attempt)
        if said:
            raise said.pop(0)
        return "done"

    async with working(app):
        job = await wait.enqueue(1)
        assert await job.result(60) == "done"
        assert attempts == [1, 1, 1, 1, 2]
        info = await job.info()
        assert info.attempts == 2
        states = [each.state for each in info.timeline]
        assert states[:3] == ["queued", "running", "scheduled"], "it was put off, and the timeline says so"
        assert states[-4:] == ["running", "retrying", "running", "succeeded"]


async def test_a_reason_is_told_while_it_waits(app: Conveyor) -> None:
    @app.job()
    async def wait(what: str) -> None:
        if what == "snooze":
            raise Snooze("1h", reason="the shop is closed")
        raise RateLimited("1h", reason="429 from the provider")

    async with working(app):
        snoozed, limited = await wait.enqueue("snooze"), await wait.enqueue("limit")

        async def say_why() -> bool:
            texts = [await snoozed.explain(), await limited.explain()]
            return "the shop is closed" in texts[0] and "429 from the provider" in texts[1]

        await until(say_why)
        assert (await snoozed.info()).attempts == 0
