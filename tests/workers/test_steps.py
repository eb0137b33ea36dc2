"""Durable steps in real workers that are killed: on SQLite and PostgreSQL, in the loop, in threads and in children."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from conveyor.jobs.explain import explain
from conveyor.jobs.job import job_info
from conveyor.jobs.stepping import send_event
from conveyor.model.ids import IdSource, MessageId
from conveyor.model.job import FINAL, JobState
from conveyor.model.message import Draft
from conveyor.model.settings import ConsumerSettings
from conveyor.store.postgres import PostgresStore
from conveyor.store.sqlite import SQLiteStore
from kit.postgres import the_server
from kit.shop import Shop

pytestmark = pytest.mark.anyio

JOBS = """
from dataclasses import dataclass
from conveyor import JobContext, LeaseLostError

@dataclass
class Part:
    name: str
    pid: int

def make(name: str) -> Part:
    say("made", name, os.getpid())
    return Part(name, os.getpid())

async def make_async(name: str) -> Part:
    return make(name)

def hold():
    while not (FOLDER / "go").exists():
        time.sleep(0.01)

@app.job(queue="loops", backoff=0)
async def by_loop(number: int, context: JobContext) -> str:
    parts = [await context.step(name, make_async if name == "b" else make, name) for name in "abc"]
    say("between", context.attempt, os.getpid(), *[type(each).__name__ for each in parts])
    await until_file("go")
    parts += [await context.step("d", make, "d")]
    await context.sleep("rest", "300ms")
    paid = await context.wait_for_event("paid", timeout="1m", type=Part)
    return "".join(each.name for each in [*parts, paid])

def _plain(number, context):
    parts = [context.blocking.step(name, make_async if name == "b" else make, name) for name in "abc"]
    say("between", context.attempt, os.getpid(), *[type(each).__name__ for each in parts])
    hold()
    parts += [context.blocking.step("d", make, "d")]
    context.blocking.sleep("rest", "300ms")
    paid = context.blocking.wait_for_event("paid", timeout="1m", type=Part)
    return "".join(each.name for each in [*parts, paid])

@app.job(queue="threads", backoff=0)
def by_thread(number: int, context: JobContext) -> str:
    return _plain(number, context)

@app.job(queue="children", backoff=0, run_in="process")
def by_child(number: int, context: JobContext) -> str:
    return _plain(number, context)

@app.job(queue="stale", backoff=0)
async def stale(number: int, context: JobContext) -> int:
    await context.step("first", make, f"first{context.attempt}")
    async def slow() -> int:
        say("slow", context.attempt)
        if context.attempt == 1:
            await until_file("go")
        return context.attempt
    try:
        return await context.step("slow", slow)
    except LeaseLostError:
        say("lost", context.attempt)
        raise
"""
QUEUES = {"by_loop": "loops", "by_thread": "threads", "by_child": "children", "stale": "stale"}


@pytest.fixture
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    """On each store that several processes can share."""
    on_sqlite = request.getfixturevalue("kind") == "sqlite"
    url = f"sqlite:///{tmp_path}/shop.db" if on_sqlite else the_server().url()
    store = SQLiteStore(tmp_path / "shop.db") if on_sqlite else PostgresStore(url)
    await store.open()
    shop = Shop(tmp_path, cast("SQLiteStore", store), url)
    shop.write(JOBS)
    try:
        yield shop
    finally:
        shop.close()
        await store.close()


async def enqueue(shop: Shop, name: str) -> MessageId:
    """By hand: opening the app here would declare its consumers."""
    queue = QUEUES[name]
    await shop.store.declare_consumer(queue, ConsumerSettings(script="shop", dead_letter_queue=f"{queue}-dlq"))
    id = IdSource(shop.store.clock).new()
    headers = f'{{"job":"{name}"}}'.encode()
    await shop.store.append([Draft(id=id, queue=queue, body=b"1", headers=headers)])
    return id


async def until_waiting(shop: Shop, id: MessageId) -> None:
    async def is_waiting() -> bool:
        return (await explain(shop.store, id)).word == "waiting_for_event"

    await shop.until_async(is_waiting)


async def until_over(shop: Shop, id: MessageId) -> JobState:
    async def is_over() -> bool:
        return (await job_info(shop.store, id)).state in FINAL

    await shop.until_async(is_over)
    return (await job_info(shop.store, id)).state


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("sqlite", "by_loop"),
        ("postgres", "by_child"),
        *(
            pytest.param(kind, name, marks=pytest.mark.campaign)
            for kind, name in [
                ("sqlite", "by_thread"), ("sqlite", "by_child"), ("postgres", "by_loop"), ("postgres", "by_thread")
            ]
        ),
    ],
)  # fmt: skip
async def test_steps_are_resumed_after_kills_of_a_worker_and_of_all(shop: Shop, kind: str, name: str) -> None:
    assert shop.url.startswith(kind)
    id = await enqueue(shop, name)
    tree = shop.start()
    await shop.until(lambda: shop.said("between"))
    os.kill(int(shop.said("between")[0][2]), signal.SIGKILL)
    await shop.until(lambda: len(shop.said("between")) == 2)
    shop.touch("go")
    await until_waiting(shop, id)
    for pid in [tree.pid, *shop.workers(tree)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shop.wait(tree)
    await send_event(shop.store, id, "paid", {"name": "!", "pid": 1})
    shop.start()
    assert await until_over(shop, id) is JobState.SUCCEEDED
    [found] = await shop.store.jobs.find([id])
    assert found.record is not None and found.record.result == b'"abcd!"'
    assert [each[1] for each in shop.said("made")] == ["a", "b", "c", "d"], "each ran once"
    assert {*shop.said("between")[1][3:]} == {"Part"}, "they come back as they were"
    info = await job_info(shop.store, id)
    assert info.attempts == 2, "the kill in the middle was an attempt; sleeping and waiting were none"
    assert [(each.name, each.state.value) for each in info.steps][-2:] == [("rest", "done"), ("paid", "received")]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)])
async def test_an_attempt_that_has_lost_its_job_keeps_nothing_and_goes_no_further(shop: Shop, kind: str) -> None:
    assert shop.url.startswith(kind)
    id = await enqueue(shop, "stale")
    tree = shop.start()
    await shop.until(lambda: shop.said("slow"))
    for pid in (worker := shop.workers(tree)):
        os.kill(pid, signal.SIGSTOP)
    assert worker
    await shop.until(lambda: len(shop.said("slow")) == 2)
    assert await until_over(shop, id) is JobState.SUCCEEDED
    shop.touch("go")
    for pid in worker:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    [found] = await shop.store.jobs.find([id])
    assert found.record is not None and found.record.result == b"2"
    assert [each[1] for each in shop.said("made")] == ["first1"]
    kept = {each.name: each.value for each in (await shop.store.steps.read(id)).steps}
    assert kept["slow"] == b"2"
