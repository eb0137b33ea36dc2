"""A store's beginning and end, its time, and whom it wakes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from conveyor.model.errors import StoreClosedError
from conveyor.store.protocol import Store
from conveyor.store.records import Ending
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    claim,
    claim_one,
    open_inbox,
    open_queue,
    pull_one,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_draft, a_firing, a_reject, a_release, a_retry, a_schedule, an_ack, an_ending


@asynccontextmanager
async def heard(store: Store, clock: ManualClock) -> AsyncIterator[set[str]]:
    """The queues of which the store spoke by the end of the block."""
    names: set[str] = set()
    await store.list_queues()
    await clock.settle()
    end = store.subscribe(names.update)
    try:
        yield names
        await store.list_queues()  # what a store does after an answer is done before its next
        await clock.settle()
    finally:
        end()


@pytest.mark.anyio
class TestLife:
    async def test_a_store_goes_by_the_clock_it_was_given(self, store: Store, clock: ManualClock) -> None:
        before = store.clock.now_ms()
        await clock.advance(90)
        assert store.clock.now_ms() == before + 90_000 == clock.now_ms()

    async def test_it_knows_where_it_is(self, store: Store) -> None:
        assert store.host

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        await open_queue(store)
        await store.close()
        with pytest.raises(StoreClosedError):
            await store.append([a_draft()])
        with pytest.raises(StoreClosedError):
            await store.get_queue("inbox")

    async def test_closing_twice_is_fine(self, store: Store) -> None:
        await store.close()
        await store.close()


@pytest.mark.anyio
class TestWakes:
    async def test_a_send_wakes(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store, "a")
        await open_queue(store, "b")
        async with heard(store, clock) as names:
            await store.append([a_draft(queue="a"), a_draft(queue="b")])
        assert names == {"a", "b"}

    async def test_a_refused_send_wakes_nobody(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store, max_backlog_bytes=1)
        async with heard(store, clock) as names:
            with pytest.raises(Exception, match="full"):
                await send(store)
        assert names == set()

    async def test_one_who_left_hears_nothing(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        async with heard(store, clock) as names:
            pass
        await send(store)
        await store.list_queues()
        await clock.settle()
        assert names == set()

    async def test_retries_and_releases_wake(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 2)
        first, second = await claim(store, worker)
        for verdict in (a_retry(first), a_release(second)):
            async with heard(store, clock) as names:
                await settle(store, worker, verdict)
            assert "inbox" in names

    async def test_a_death_wakes_the_dead_letter_queue_and_the_alert_queue(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_inbox(store, alert_queue="alerts")
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        async with heard(store, clock) as names:
            await settle(store, worker, a_reject(lease))
        assert {DEAD, "alerts"} <= names

    async def test_a_redrive_wakes_the_origin(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        async with heard(store, clock) as names:
            await store.redrive(DEAD)
        assert "inbox" in names

    async def test_a_resume_wakes(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        await store.pause("inbox")
        async with heard(store, clock) as names:
            await store.resume("inbox")
        assert "inbox" in names

    async def test_a_freed_slot_wakes(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, max_concurrency=1)
        worker = await a_worker(store)
        await send_many(store, 2)
        await claim(store, worker)
        async with heard(store, clock) as names:
            await store.settle(worker, [], ended={"inbox": 1})
        assert "inbox" in names

    async def test_the_next_of_a_key_is_woken(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        await send_many(store, 2, key="k")
        (lease,) = await claim(store, worker)
        async with heard(store, clock) as names:
            await settle(store, worker, an_ack(lease))
        assert "inbox" in names

    async def test_a_reaped_owner_wakes_its_queues(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        await claim(store, worker)
        async with heard(store, clock) as names:
            await store.reap_owner(worker, an_ending(Ending.EXITED))
        assert "inbox" in names

    async def test_a_swept_lease_wakes_its_queue(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await send(store)
        await pull_one(store)
        await clock.advance(31)
        async with heard(store, clock) as names:
            await store.sweep()
        assert "inbox" in names

    async def test_a_firing_wakes(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(), 1_000)
        async with heard(store, clock) as names:
            await store.fire(a_firing())
        assert "inbox" in names
