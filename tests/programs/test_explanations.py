"""Why is it not running? The true reason, in sixteen situations."""

from __future__ import annotations

import asyncio

import pytest

from conveyor import Conveyor, JobState, RateLimited, Snooze
from kit.programs import until, until_state, working

pytestmark = pytest.mark.anyio


async def says(job: object, *words: str) -> None:
    async def is_so() -> bool:
        text = await job.explain()  # type: ignore[attr-defined]  # of any result
        return all(each in text for each in words)

    try:
        await until(is_so, 60)
    except AssertionError:
        raise AssertionError(f"says {await job.explain()!r}, not {words}") from None  # type: ignore[attr-defined]  # of any result


async def test_before_any_worker(app: Conveyor) -> None:
    @app.job()
    async def act(number: int) -> None: ...

    async with app:
        job = await act.enqueue(1)
        await says(job, "no worker of app `shop` is up")
        await app.pause("shop-jobs")
        await says(job, "`shop-jobs` is paused")
        later = await act.options(delay="1h").enqueue(1)
        await says(later, "paused")
        await app.resume("shop-jobs")
        await says(later, "scheduled for")
        await later.cancel()
        await says(later, "was cancelled")


async def test_while_workers_are_at_it(app: Conveyor) -> None:
    go_on = asyncio.Event()
    app.job_queue("narrow", max_concurrency=1)
    app.job_queue("keyed", key_concurrency=1)
    app.job_queue("rated", rate="1/h")
    app.job_queue("keyrated", key_rate="1/h")

    @app.job(queue="narrow", errors={KeyError: None}, max_retries=1, backoff="1h")
    async def act(what: str) -> None:
        if what == "hold":
            await go_on.wait()
        if what == "fail":
            raise KeyError("gone")
        if what == "retry":
            raise ValueError("later")
        if what == "snooze":
            raise Snooze("1h", reason="closed")

    @app.job(queue="keyed")
    async def hold(number: int) -> None:
        await go_on.wait()

    @app.job(queue="rated")
    async def rated(number: int) -> None: ...

    @app.job(queue="keyrated")
    async def keyrated(number: int) -> None: ...

    @app.job(queue="resting")
    async def rest(number: int) -> None:
        raise RateLimited("1h", reason="429")

    async with working(app):
        succeeded, failed, retrying, snoozed = [await act.enqueue(each) for each in ("fine", "fail", "retry", "snooze")]
        await succeeded.result(60)
        await says(succeeded, "succeeded")
        await until_state(failed, JobState.FAILED)
        await says(failed, "failed", "KeyError", "narrow-dlq")
        await says(retrying, "attempt 1 failed with ValueError: later")
        await says(snoozed, "snoozed", "closed")
        held, behind = await act.enqueue("hold"), await act.enqueue("fine")
        await says(held, "it runs, on")
        await says(behind, "all 1 slots", "max_concurrency")
        first, second = await hold.options(key="ann").enqueue(1), await hold.options(key="ann").enqueue(2)
        await says(first, "runs")
        await says(second, "key `ann`", "run already")
        await (await rated.enqueue(1)).result(60)
        await says(await rated.enqueue(2), "the rate of queue `rated`")
        await (await keyrated.options(key="bob").enqueue(1)).result(60)
        await says(await keyrated.options(key="bob").enqueue(2), "key `bob`", "its rate is spent")
        limited = await rest.enqueue(1)
        await says(limited, "rate limited", "429")
        await says(await rest.enqueue(2), "`resting` rests until", "rate limited")
        await held.cancel()
        await says(held, "cancel")
        await until_state(held, JobState.CANCELLED)
        go_on.set()
        await second.result(60)


async def test_what_nobody_consumes_or_knows(url: str) -> None:
    mine, theirs = Conveyor("shop", url=url), Conveyor("shop", url=url)

    @mine.job()
    async def mine_only(number: int) -> None: ...

    @theirs.job()
    async def theirs_only(number: int) -> None: ...

    async with theirs:
        unknown = await theirs_only.enqueue(1)
        dead = await theirs_only.options(expires_in="0.05s").enqueue(1)
        await asyncio.sleep(0.1)
    async with working(mine):
        await says(mine.jobs.get(unknown.id), "no job `theirs_only` is declared")
        await says(mine.jobs.get(dead.id), "dead", "expired")


async def test_a_long_line(app: Conveyor) -> None:
    go_on = asyncio.Event()

    @app.job()
    async def act(number: int) -> None:
        await go_on.wait()

    async with working(app, concurrency=1):
        first = await act.enqueue(0)
        await says(first, "runs")
        jobs = await act.enqueue_many(range(1, 6))
        await says(jobs[-1], "waits in line")
        go_on.set()
        await jobs[-1].result(60)
