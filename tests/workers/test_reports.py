"""What jobs say in real workers, wherever they run; and what the server's streams hear of other processes."""

from __future__ import annotations

import os
import signal
from itertools import groupby

import pytest

from conveyor.jobs.following import JobEnd, JobLog, JobOutput, JobProgress, follow, read_logs, read_output
from conveyor.jobs.job import job_info
from conveyor.model.ids import IdSource, MessageId
from conveyor.model.job import JobState
from conveyor.model.message import Draft
from conveyor.model.settings import ConsumerSettings
from kit.shop import Shop

pytestmark = pytest.mark.anyio

JOBS = """
from conveyor import JobContext

def speak(context):
    context.log(f"attempt {context.attempt}")
    context.write("one ")
    context.write("two")
    context.progress(1.0, "done")

@app.job(queue="loops")
async def looped(number: int, context: JobContext) -> int:
    speak(context)
    return number

@app.job(queue="threads")
def threaded(number: int, context: JobContext) -> int:
    speak(context)
    return number

@app.job(queue="children", run_in="process")
def forked(number: int, context: JobContext) -> int:
    speak(context)
    return number

@app.job(queue="children", run_in="process")
async def forked_loop(number: int, context: JobContext) -> int:
    speak(context)
    return number

@app.job(queue="loops", max_retries=2, backoff=0)
async def slow(number: int, context: JobContext) -> int:
    speak(context)
    say("began", os.getpid(), context.attempt)
    if context.attempt == 1:
        await asyncio.sleep(60)
    return number

@app.job(queue="failing", max_retries=0)
async def broken(number: int) -> int:
    raise ValueError("no luck")
"""
QUEUES = {"looped": "loops", "threaded": "threads", "slow": "loops", "broken": "failing"}


async def enqueue(shop: Shop, name: str) -> MessageId:
    """By hand: opening the app here would declare its consumers."""
    queue = QUEUES.get(name, "children")
    await shop.store.declare_consumer(queue, ConsumerSettings(script="shop", dead_letter_queue=f"{queue}-dlq"))
    id = IdSource(shop.store.clock).new()
    headers = f'{{"job":"{name}"}}'.encode()
    await shop.store.append([Draft(id=id, queue=queue, body=b"1", headers=headers)])
    return id


@pytest.mark.parametrize("name", ["looped", "threaded", "forked", "forked_loop"])
async def test_a_job_speaks_wherever_it_runs(shop: Shop, name: str) -> None:
    shop.write(JOBS)
    id = await enqueue(shop, name)
    shop.start()
    events = [event async for event in follow(shop.store, id)]
    kinds = [type(each) for each in events]  # what a busy thread writes may come in two pieces
    assert [kind for kind, _ in groupby(kinds)] == [JobLog, JobOutput, JobProgress, JobEnd]
    assert await read_output(shop.store, id) == "one two"
    progress = (await job_info(shop.store, id)).progress
    assert progress is not None and progress.fraction == 1.0


async def test_what_was_said_outlives_the_worker_and_the_next_attempt_goes_on(shop: Shop) -> None:
    shop.write(JOBS)
    id = await enqueue(shop, "slow")
    shop.start()

    async def has_said() -> bool:
        return bool(await shop.store.reports.find(id))

    await shop.until_async(has_said)
    os.kill(int(shop.said("began")[0][1]), signal.SIGKILL)
    events = [event async for event in follow(shop.store, id)]
    assert isinstance(events[-1], JobEnd) and events[-1].state is JobState.SUCCEEDED
    assert [each.text for each in await read_logs(shop.store, id)] == ["attempt 1", "attempt 2"]
    assert await read_output(shop.store, id) == "one two"
    numbers = [each.number for each in events if not isinstance(each, JobEnd)]
    assert numbers == sorted(set(numbers))


async def test_servers_hear_of_a_job_that_fails_in_a_worker(shop: Shop) -> None:
    shop.write(JOBS)
    id = await enqueue(shop, "broken")
    shop.start()

    async def is_told() -> bool:
        notices = await shop.store.notices.read(after=0, limit=99)
        return any(each.name == "conveyor.message.dead_lettered" and id.hex().encode() in each.body for each in notices)

    await shop.until_async(is_told)
    notices = {each.name: each for each in await shop.store.notices.read(after=0, limit=99)}
    assert b'"job":"broken"' in notices["conveyor.message.dead_lettered"].body
    assert not notices["conveyor.worker.started"].origin.endswith(f":{os.getpid()}")
