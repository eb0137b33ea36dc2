"""What jobs say of themselves, from the call in their function to whoever reads it, in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conveyor import Conveyor, Job, JobContext, JobEnd, JobEvent, JobNotFoundError, JobState
from conveyor.jobs.following import JobLog, JobOutput, JobProgress
from conveyor.model.errors import InvalidSettingError, StoreError

pytestmark = pytest.mark.anyio


def make_app() -> Conveyor:
    return Conveyor("shop", url="memory://")


async def all_of(job: Job[Any], after: int = 0) -> list[JobEvent]:
    return [event async for event in job.follow(after=after)]


async def test_what_a_job_says_is_kept_and_can_be_followed() -> None:
    app = make_app()

    @app.job(max_retries=0)
    async def render(number: int, context: JobContext) -> int:
        context.log("begin", level="debug")
        context.write("a")
        context.write("b\n")
        context.progress(0.25, "half of a half")
        context.progress(0.5, "half")
        return number

    async with app.testing() as kit:
        job = await render.enqueue(7)
        assert (await job.info()).progress is None
        await kit.drain()
        progress = (await job.info()).progress
        assert progress is not None and (progress.fraction, progress.note, progress.attempt) == (0.5, "half", 1)
        assert [(each.level, each.text) for each in await job.logs()] == [("debug", "begin")]
        assert await job.output() == "ab\n"
        log, output, halfway, end = await all_of(job)
        assert isinstance(log, JobLog) and isinstance(output, JobOutput) and output.chunk == "ab\n"
        assert isinstance(halfway, JobProgress)
        assert end == JobEnd(number=3, state=JobState.SUCCEEDED, error=None)
        assert await all_of(job, after=output.number) == [halfway, end]
        assert await all_of(job, after=3) == [end]


async def test_a_plain_function_speaks_too() -> None:
    app = make_app()

    @app.job(max_retries=0)
    def render(number: int, context: JobContext) -> None:
        context.write(b"\x00\xff")
        context.log("done")

    async with app.testing() as kit:
        job = await render.enqueue(1)
        await kit.drain()
        assert await job.output() == b"\x00\xff"
        assert [each.text for each in await job.logs()] == ["done"]


async def test_a_job_that_says_nothing_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()

    @app.job()
    async def silent(number: int, context: JobContext) -> None:
        assert context.voice is None

    async with app.testing() as kit:
        written: list[object] = []
        monkeypatch.setattr(kit.store.reports, "write", written.append)
        job = await silent.enqueue(1)
        await kit.drain()
        assert await job.state() is JobState.SUCCEEDED
        assert written == []
        assert await job.logs() == [] and await job.output() == ""


async def test_a_failed_attempt_is_heard_and_its_output_gives_way() -> None:
    app = make_app()

    @app.job(max_retries=1, backoff=0)
    async def shaky(number: int, context: JobContext) -> None:
        context.log(f"attempt {context.attempt}")
        context.write(f"of {context.attempt}")
        if context.attempt == 1:
            raise ValueError("no luck")

    async with app.testing() as kit:
        job = await shaky.enqueue(1)
        await kit.drain()
        assert [(each.attempt, each.text) for each in await job.logs()] == [(1, "attempt 1"), (2, "attempt 2")]
        assert await job.output() == "of 2"


async def test_what_is_said_is_bounded() -> None:
    app = make_app()

    @app.job()
    async def chatty(number: int, context: JobContext) -> None:
        for each in range(9_000):
            context.log(str(each))
            context.write("x" * 200)
        context.log("y" * 9_000)
        context.progress(7.5, "n" * 9_000)
        with pytest.raises(InvalidSettingError, match="level"):
            context.log("loud", level="shout")  # type: ignore[arg-type]  # wrong on purpose

    async with app.testing() as kit:
        job = await chatty.enqueue(1)
        await kit.drain()
        logs = await job.logs()
        assert len(logs) == 1_000 and logs[0].text == "8001" and len(logs[-1].text) == 4_000
        output = await job.output()
        assert isinstance(output, str)
        assert output.startswith("x" * 1_000_000 + "\n[cut") and len(output) < 1_000_100
        progress = (await job.info()).progress
        assert progress is not None and progress.fraction == 1.0 and len(progress.note) == 400


async def test_it_is_written_while_the_job_runs() -> None:
    app = make_app()
    go_on = asyncio.Event()

    @app.job()
    async def slow(number: int, context: JobContext) -> None:
        context.progress(0.1)
        await go_on.wait()
        context.log("last")

    async with app.testing() as kit:
        job = await slow.enqueue(1)
        draining = asyncio.create_task(kit.drain())
        following = asyncio.create_task(all_of(job))
        while (await job.info()).progress is None:
            await kit.clock.advance(0.05)
        go_on.set()
        while not following.done():
            await kit.clock.advance(0.05)
        await draining
        assert [type(each) for each in await following] == [JobProgress, JobLog, JobEnd]


async def test_a_store_that_refuses_loses_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()

    @app.job()
    async def speaks(number: int, context: JobContext) -> None:
        context.log("a")
        context.progress(0.5)
        context.log("b")

    async with app.testing() as kit:
        write, refusals = kit.store.reports.write, [StoreError("away"), StoreError("away")]

        async def refuse(*given: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return await write(*given)

        monkeypatch.setattr(kit.store.reports, "write", refuse)
        job = await speaks.enqueue(1)
        draining = asyncio.create_task(kit.drain())
        while not draining.done():
            await kit.clock.advance(0.05)
        assert [each.text for each in await job.logs()] == ["a", "b"]
        assert refusals == []


async def test_what_is_said_while_a_write_fails_comes_after_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    refused = asyncio.Event()
    contexts: list[JobContext] = []

    @app.job()
    async def speaks(number: int, context: JobContext) -> None:
        contexts.append(context)
        context.log("a")
        await refused.wait()

    async with app.testing() as kit:
        write = kit.store.reports.write

        async def refuse(*given: Any) -> Any:
            if not refused.is_set():
                refused.set()
                contexts[0].log("b")
                raise StoreError("away")
            return await write(*given)

        monkeypatch.setattr(kit.store.reports, "write", refuse)
        job = await speaks.enqueue(1)
        draining = asyncio.create_task(kit.drain())
        while not draining.done():
            await kit.clock.advance(0.05)
        assert [each.text for each in await job.logs()] == ["a", "b"]


async def test_a_store_that_stays_away_does_not_hold_up_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()

    @app.job()
    async def speaks(number: int, context: JobContext) -> None:
        context.log("a")

    async with app.testing() as kit:

        async def refuse(*_given: Any) -> Any:
            raise StoreError("away")

        monkeypatch.setattr(kit.store.reports, "write", refuse)
        job = await speaks.enqueue(1)
        draining = asyncio.create_task(kit.drain())
        while not draining.done():
            await kit.clock.advance(0.05)
        assert await job.state() is JobState.SUCCEEDED


async def test_who_is_not_there_says_nothing() -> None:
    app = make_app()

    @app.job()
    async def some(number: int) -> None: ...

    async with app.testing():
        job = app.jobs.get("00" * 16, some)
        for ask in (job.logs(), job.output(), all_of(job)):
            with pytest.raises(JobNotFoundError):
                await ask
