"""Consumers that take messages from the store themselves, killed and raced against operators: a dead letter is in one
place (F12), a paused or purged queue hands nothing out (F47), a key has one live message whoever asks (F50)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time

import pytest

from conveyor.model.settings import ConsumerSettings
from conveyor.store.protocol import Store
from conveyor.store.urls import make_store
from conveyor.testing.factories import a_claim, a_draft, an_ack, an_owner
from kit.campaign import SEED, Report, sizes
from kit.checker import Rules
from kit.fleet import Fleet
from kit.history import Recorder, What

REJECTING = """
from conveyor.store.records import PULL_OWNER

async def life(store, number, history):
    while not is_over():
        await store.sweep()
        asked = time.monotonic()
        claimed = await store.claim(a_claim(queue="jobs", owner=PULL_OWNER, lease_ms=300, limit=20))
        for lease in claimed.leases:
            history.note(What.START, lease.body.decode(), id=lease.id, attempt=lease.attempts, asked=asked)
        await store.settle_pulled([a_reject(lease) for lease in claimed.leases])
"""


@pytest.mark.parametrize("kills", sizes(6, 100))
def test_a_kill_while_dead_letters_move_leaves_each_in_one_place(fleet: Fleet, report: Report, kills: int) -> None:
    """F12."""
    fleet.send(range(500 * kills))
    fleet.ask(
        lambda store: store.put_consumer("jobs", ConsumerSettings(script="shop", dead_letter_queue="jobs-dlq", max_retries=100))
    )
    fleet.run_herd(REJECTING, kills=kills, seed=SEED, count=4)
    verdict = fleet.judge(Rules(max_retries=100, leases_end=True, is_drained=False))
    dead = fleet.metrics("jobs-dlq").backlog_messages
    report("F12", verdict, dead=dead)
    assert not verdict.findings, verdict.story
    assert dead > kills


@pytest.mark.parametrize("steps", sizes(60, 1_000))
def test_nothing_is_claimed_from_a_queue_that_is_paused_or_was_purged(fleet: Fleet, report: Report, steps: int) -> None:
    """F47: three owners claim and two producers send, each through a store of its own, while an operator meddles."""
    asyncio.run(race(fleet, steps))
    verdict = fleet.judge(Rules(is_drained=False), dead=None)
    lines = [line.what for line in fleet.history()]
    report("F47", verdict, pauses=lines.count(What.PAUSED), purges=lines.count(What.PURGED))
    assert not verdict.findings, verdict.story
    assert verdict.calls > steps // 2
    assert lines.count(What.PAUSED) > steps // 10 < lines.count(What.PURGED)


async def race(fleet: Fleet, steps: int) -> None:
    fleet_stores = [make_store(fleet.url) for _ in range(6)]
    operator, *others = fleet_stores
    async with contextlib.AsyncExitStack() as stack:
        for store in fleet_stores:
            await store.open()
            stack.push_async_callback(store.close)
        await operator.declare_consumer("jobs", ConsumerSettings(script="shop"))
        names = itertools.count()
        racing = [asyncio.create_task(_claim(store, fleet.recorder)) for store in others[:3]]
        racing += [asyncio.create_task(_send(store, fleet.recorder, names)) for store in others[3:]]
        await _meddle(operator, fleet.recorder, steps)
        for task in racing:
            assert not task.done(), task
            task.cancel()
        await asyncio.gather(*racing, return_exceptions=True)


async def _claim(store: Store, history: Recorder) -> None:
    owner = await store.register_owner(an_owner())
    while True:
        asked = time.monotonic()
        claimed = await store.claim(a_claim(queue="jobs", owner=owner))
        for lease in claimed.leases:
            parts = {"id": lease.id, "attempt": lease.attempts}
            history.note(What.START, lease.body.decode(), asked=asked, **parts)
            history.note(What.END, lease.body.decode(), **parts)
        await store.settle(owner, [an_ack(lease) for lease in claimed.leases])
        for lease in claimed.leases:
            history.note(What.ACKED, lease.body.decode(), id=lease.id)


async def _send(store: Store, history: Recorder, names: itertools.count[int]) -> None:
    while True:
        drafts = [a_draft(queue="jobs", body=str(next(names)).encode()) for _ in range(3)]
        said = [(draft.body.decode(), draft.id) for draft in drafts]
        history.note_all(What.SENDING, said)
        await store.append(drafts)
        history.note_all(What.SENT, said)


async def _meddle(operator: Store, history: Recorder, steps: int) -> None:
    chance = random.Random(SEED)
    for _ in range(steps):
        await operator.clock.sleep(chance.uniform(0, 0.02))
        match chance.choice(["purge", "pause", "wait"]):
            case "purge":
                history.note(What.PURGING)
                await operator.purge("jobs")
                history.note(What.PURGED)
            case "pause":
                await operator.pause("jobs")
                history.note(What.PAUSED)
                await operator.clock.sleep(chance.uniform(0, 0.02))
                history.note(What.RESUMING)
                await operator.resume("jobs")
            case _:
                pass
