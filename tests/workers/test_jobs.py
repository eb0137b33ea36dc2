"""Jobs in real workers: killed, cancelled, too slow."""

from __future__ import annotations

import os
import signal

import pytest

from conveyor.jobs.explain import explain
from conveyor.jobs.job import job_info
from conveyor.model.ids import IdSource, MessageId
from conveyor.model.job import JobState
from conveyor.model.message import Draft
from conveyor.model.settings import ConsumerSettings
from kit.shop import Shop

pytestmark = pytest.mark.anyio

JOBS = """
from conveyor import JobContext

@app.job(queue="loops", max_retries=2, backoff=0)
async def slow(number: int, context: JobContext) -> int:
    say("began", context.id, os.getpid(), context.attempt)
    if context.attempt < number:
        await asyncio.sleep(60)
    return number

@app.job(queue="threads")
def watchful(number: int, context: JobContext) -> int:
    say("began", context.id, os.getpid(), context.attempt)
    while True:
        time.sleep(0.05)
        context.raise_if_cancelled()

@app.job(queue="children", run_in="process")
def stubborn(number: int, context: JobContext) -> int:
    say("began", context.id, os.getpid(), context.attempt)
    time.sleep(60)

@app.job(queue="children", run_in="process")
async def patient(number: int, context: JobContext) -> int:
    say("began", context.id, os.getpid(), context.attempt)
    await asyncio.sleep(60)

@app.job(queue="children", run_in="process", timeout="1s", max_retries=0)
def late(number: int, context: JobContext) -> int:
    say("began", context.id, os.getpid(), context.attempt)
    time.sleep(60)

@app.job(queue="children", run_in="process", max_retries=1, backoff=0)
def deadly(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)

@app.job(queue="children", run_in="process", result_ttl="1h")
def double(number: int, context: JobContext) -> int:
    return number * 2
"""
QUEUES = {"slow": "loops", "watchful": "threads"}
RETRIES = {"late": 0, "deadly": 1}


async def enqueue(shop: Shop, name: str, number: int = 1) -> MessageId:
    """By hand: opening the app here would declare its consumers."""
    queue = QUEUES.get(name, "children")
    await shop.store.declare_consumer(queue, ConsumerSettings(script="shop", dead_letter_queue=f"{queue}-dlq"))
    id = IdSource(shop.store.clock).new()
    headers = f'{{"job":"{name}"}}'.encode()
    await shop.store.append(
        [Draft(id=id, queue=queue, body=str(number).encode(), headers=headers, max_retries=RETRIES.get(name))]
    )
    return id


async def until_state(shop: Shop, id: MessageId, *states: JobState) -> None:
    async def is_so() -> bool:
        [found] = await shop.store.jobs.find([id])
        return found.state(shop.store.clock.now_ms()) in states

    await shop.until_async(is_so)


async def test_a_job_outlives_its_worker(shop: Shop) -> None:
    shop.write(JOBS)
    id = await enqueue(shop, "slow", 2)
    shop.start()
    await shop.until(lambda: shop.said("began"))
    os.kill(int(shop.said("began")[0][2]), signal.SIGKILL)
    await until_state(shop, id, JobState.SUCCEEDED)
    info = await job_info(shop.store, id)
    states = [each.state.value for each in info.timeline]
    assert states[0] == "queued" and states[-3:] == ["retrying", "running", "succeeded"]
    assert "signal 9" in (info.timeline[-3].error or "")
    assert info.attempts == 2


@pytest.mark.parametrize("name", ["slow", "watchful", "stubborn", "patient"])
async def test_a_running_job_is_cancelled_wherever_it_runs(shop: Shop, name: str) -> None:
    shop.write(JOBS)
    id = await enqueue(shop, name, 9)
    shop.start()
    await shop.until(lambda: shop.said("began"))
    found = await shop.store.jobs.cancel(id)
    assert found is not None and found.state(shop.store.clock.now_ms()) is JobState.RUNNING
    await until_state(shop, id, JobState.CANCELLED)
    assert len(shop.said("began")) == 1, "it is not tried again"
    assert (await explain(shop.store, id)).word == "cancelled"


async def test_a_child_that_is_too_slow_is_killed(shop: Shop) -> None:
    shop.write(JOBS)
    id = await enqueue(shop, "late")
    shop.start()
    await until_state(shop, id, JobState.DEAD)
    info = await job_info(shop.store, id)
    assert "HandlerTimeoutError" in (info.error or "")
    assert info.fingerprint is not None
    assert await shop.store.redrive("children-dlq") == 1

    async def is_dead_again() -> bool:
        return len(await shop.store.peek("children-dlq", limit=9)) == 1

    await shop.until_async(is_dead_again)
    again = await job_info(shop.store, id)
    assert [each.state for each in again.timeline if each.error is not None] == [JobState.DEAD] * 2
    assert again.attempts == 1, "it has its own limit still, and not its queue's"


async def test_a_child_that_dies_is_an_attempt_of_its_job(shop: Shop) -> None:
    shop.write(JOBS)
    id = await enqueue(shop, "deadly")
    other = await enqueue(shop, "double", 21)
    shop.start()
    await until_state(shop, other, JobState.SUCCEEDED)
    await until_state(shop, id, JobState.DEAD)
    info = await job_info(shop.store, id)
    assert [each.state for each in info.timeline if each.error is not None][-1] is JobState.DEAD
    [found] = await shop.store.jobs.find([other])
    assert found.record is not None and found.record.result == b"42"
