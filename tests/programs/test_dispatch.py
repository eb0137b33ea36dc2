"""Modes of dispatch as programs use them: declared, changed while jobs wait and run, in one process and in several."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from conveyor import Conveyor, Dispatch, Job, Message
from kit.campaign import write_result
from kit.fleet import Fleet
from kit.programs import SAY, said, until, working

pytestmark = pytest.mark.anyio


async def change(app: Conveyor, queue: str, mode: Dispatch, **settings: Any) -> None:
    """As an operator does."""
    info = await app.store.get_queue(queue)
    assert info.consumer is not None
    await app.store.put_consumer(queue, replace(info.consumer, dispatch=mode, **settings))


async def says(job: Job[Any], *words: str) -> None:
    async def is_so() -> bool:
        text = await job.explain()
        return all(each in text for each in words)

    await until(is_so)


async def test_immediate_begins_where_it_was_sent_and_is_leased_when_the_send_returns(app: Conveyor) -> None:
    go_on, began = asyncio.Event(), list[int]()

    @app.consumer("now", dispatch="immediate", max_batch_size=1)
    async def handle(message: Message[int]) -> None:
        began.append(message.body)
        await go_on.wait()

    async with working(app):
        await until(lambda: app.here.line_to("now") is not None)
        await until(lambda: _is_open(app, "now"))
        for number in range(3):
            await app.queue("now").send(number)
            assert [each.leased for each in await app.store.peek("now", limit=9)] == [True] * (number + 1)
        await until(lambda: began == [0, 1, 2])
        go_on.set()

        async def is_empty() -> bool:
            return not await app.store.peek("now", limit=9)

        await until(is_empty)


def _is_open(app: Conveyor, queue: str) -> bool:
    line = app.here.line_to(queue)
    return line is not None and line._starter.spare_calls > 0


async def test_jobs_sent_in_a_burst_all_begin_and_all_end_once(app: Conveyor) -> None:
    done: Counter[int] = Counter()
    app.job_queue("now", dispatch="immediate")

    @app.job(queue="now")
    async def act(number: int) -> int:
        done[number] += 1
        return number

    async with working(app):
        jobs = await asyncio.gather(*(act.enqueue(number) for number in range(60)))
        assert [await job.result(60) for job in jobs] == list(range(60))
    assert set(done.values()) == {1}


async def test_in_a_transaction_of_the_users_it_begins_after_the_commit(tmp_path: Path) -> None:
    app, began = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db"), list[int]()

    @app.consumer("now", dispatch="immediate", max_batch_size=1)
    async def handle(message: Message[int]) -> None:
        began.append(message.body)

    async with working(app):
        await until(lambda: _is_open(app, "now"))
        with contextlib.closing(apsw.Connection(str(tmp_path / "store.db"))) as user:
            user.set_busy_timeout(60_000)  # the worker writes too
            user.execute("BEGIN IMMEDIATE")
            await app.queue("now").send(1, tx=user)
            user.execute("ROLLBACK")
            user.execute("BEGIN IMMEDIATE")
            await app.queue("now").send(2, tx=user)
            await asyncio.sleep(0)
            assert began == []
            user.execute("COMMIT")
        await until(lambda: began == [2])


async def test_why_it_is_not_running(tmp_path: Path) -> None:
    app, go_on = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db"), asyncio.Event()
    app.job_queue("yearly", dispatch="cron", dispatch_cron="0 0 1 1 *", dispatch_messages=2)
    app.job_queue("single", dispatch="alarm")

    @app.job(queue="yearly")
    async def celebrate(number: int) -> None: ...

    @app.job(queue="single")
    async def act(number: int) -> None:
        await go_on.wait()

    async with working(app):
        year = time.gmtime().tm_year + 1
        jobs = await celebrate.enqueue_many(range(2))
        await says(jobs[1], f"the tick at {year}-01-01 00:00:00 UTC", "`cron`", "2 at each tick", "1 are before it")
        first = await act.enqueue(1)
        said_at_once = await first.explain()
        assert "its alarm at" in said_at_once or "it runs" in said_at_once, "a slow machine may ask too late"
        await says(first, "it runs, on")
        second = await act.enqueue(2)
        await says(second, "by `alarm` one of queue `single` may run at a time")
        go_on.set()
        await second.result(60)
        await change(app, "yearly", Dispatch.QUEUE)
        for job in jobs:
            await job.result(60)


# Several processes

APP = (
    SAY
    + """
app.job_queue("line", max_concurrency=4)

@app.job(queue="line", max_retries=9)
async def act(number: int) -> None:
    say("begin", number, os.getpid())
    await asyncio.sleep(0.3)
    say("end", number, os.getpid())
"""
)
JOBS = 200
MODES = [*[Dispatch.ALARM] * 3, *[Dispatch.CRON] * 2, Dispatch.QUEUE, Dispatch.IMMEDIATE]


async def drive(url: str, folder: Path, *, kills: int, seed: int) -> list[tuple[Dispatch, int, int]]:
    """Send the jobs and change the mode under them until all are done; the modes, and where in the log each
    was followed by all, and where it was changed again."""
    chance, app = random.Random(seed), Conveyor("shop", url=url)
    app.job_queue("line", max_concurrency=4)

    @app.job(queue="line", max_retries=9)
    async def act(number: int) -> None: ...

    spans: list[tuple[Dispatch, int, int]] = []
    killed: set[int] = set()
    async with app:
        await act.enqueue_many(range(JOBS // 2))
        rest = list(range(JOBS // 2, JOBS))
        end = time.monotonic() + 900
        while (await app.store.metrics("line")).backlog_messages or rest:
            assert time.monotonic() < end, "it has come to a stand"
            for number in rest[:10]:
                await act.enqueue(number)
            del rest[:10]
            mode = chance.choice(MODES)
            await change(app, "line", mode, dispatch_messages=chance.randint(1, 15))
            await asyncio.sleep(2)  # every process follows within a second or two
            first = len(said(folder))
            if len(killed) < kills and (pid := pid_at_work(folder)) not in {None, *killed}:
                assert pid is not None
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(chance.uniform(0, 66) if mode is Dispatch.CRON else chance.uniform(0, 3))
            spans.append((mode, first, len(said(folder))))
    return spans


def pid_at_work(folder: Path) -> int | None:
    """Of a worker that has begun a job and not ended it."""
    lines = said(folder)
    ended = {words[1] for words in lines if words[0] == "end"}
    return next((int(words[2]) for words in reversed(lines) if words[0] == "begin" and words[1] not in ended), None)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("kills", "seed"), [(0, 1), (0, 2), (3, 3)])
def test_the_mode_changes_while_200_jobs_wait_and_run_in_three_processes(
    fleet: Fleet, url: str, kills: int, seed: int
) -> None:
    fleet.write_app(APP)
    for _ in range(3):
        fleet.work("--processes", "1")
    spans = asyncio.run(drive(url, fleet.folder, kills=kills, seed=seed))
    lines = said(fleet.folder)
    began, ended = (Counter(int(words[1]) for words in lines if words[0] == what) for what in ("begin", "end"))
    assert set(ended) == set(range(JOBS)), "none is lost"
    if not kills:
        assert set(began.values()) == {1}, "none runs twice"
        assert set(ended.values()) == {1}
    else:
        assert sum(began.values()) - JOBS <= 4 * 3, "only what a killed worker had is tried again"
    checked = 0  # begins that had to come in order
    for mode, first, last in spans:
        if mode is Dispatch.ALARM and not kills:
            checked += judge_order(lines[first:last])
    figures = {
        "jobs": JOBS,
        "kills": kills,
        "changes": len(spans),
        "begun": sum(began.values()),
        "in_order": checked,
    }
    write_result("dispatch", figures)


def judge_order(lines: list[list[str]]) -> int:
    """One at a time, and in the order of the sends, within a span of the log; how many."""
    numbers = [int(words[1]) for words in lines if words[0] == "begin"]
    assert numbers == sorted(numbers)
    first = next((at for at, words in enumerate(lines) if words[0] == "begin"), len(lines))
    for earlier, later in zip(lines[first:], lines[first + 1 :], strict=False):
        assert (earlier[0], later[0]) != ("begin", "begin"), "two at a time"
    return len(numbers)
