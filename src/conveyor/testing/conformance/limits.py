"""`max_concurrency`: slots of running handler calls, over all processes."""

from __future__ import annotations

import pytest

from conveyor.store.protocol import Store
from conveyor.store.records import Ending
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import a_worker, ask, claim, claim_one, open_inbox, pull, send_many, settle
from conveyor.testing.factories import a_consumer, an_ack, an_ending


@pytest.mark.anyio
class TestConcurrency:
    async def test_no_more_calls_begin_than_the_queue_has_slots(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=3)
        first, second = await a_worker(store), await a_worker(store)
        await send_many(store, 9)
        one, two = await ask(store, first, limit=2), await ask(store, second)
        assert (len(one.leases), one.calls) == (2, 2)
        assert (len(two.leases), two.calls) == (1, 1)
        three = await ask(store, first)
        assert (three.leases, three.calls, three.opens_at) == ([], 0, None)

    async def test_slots_come_back_when_calls_end_and_not_with_the_ack(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=1)
        worker = await a_worker(store)
        await send_many(store, 2)
        await settle(store, worker, an_ack(await claim_one(store, worker)))
        assert await claim(store, worker) == []
        await store.settle(worker, [], ended={"inbox": 1})
        assert len(await claim(store, worker)) == 1

    async def test_an_ack_and_its_slot_may_come_together(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=1)
        worker = await a_worker(store)
        await send_many(store, 3)
        for _ in range(3):
            await store.settle(worker, [an_ack(await claim_one(store, worker))], ended={"inbox": 1})
        assert (await store.metrics("inbox")).backlog_messages == 0

    async def test_giving_back_too_much_gives_no_more(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=2)
        worker = await a_worker(store)
        await send_many(store, 9)
        await claim(store, worker, limit=1)
        await store.settle(worker, [], ended={"inbox": 7})
        assert len(await claim(store, worker)) == 2

    async def test_an_owner_gives_back_only_its_own(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=1)
        holder, other = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        await claim(store, holder)
        await store.settle(other, [], ended={"inbox": 1})
        assert await claim(store, other) == []

    async def test_a_worker_asks_for_no_more_calls_than_it_can_start(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=5)
        await send_many(store, 9)
        claimed = await ask(store, await a_worker(store), calls=2)
        assert (len(claimed.leases), claimed.calls) == (2, 2)

    async def test_a_batch_is_one_call(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=2)
        worker = await a_worker(store)
        await send_many(store, 30)
        claimed = await ask(store, worker, limit=30, batch_size=4, batch_timeout_ms=5_000)
        assert (len(claimed.leases), claimed.calls) == (8, 2)

    async def test_an_incomplete_batch_is_one_call_too(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, max_concurrency=5)
        worker = await a_worker(store)
        await send_many(store, 5)
        await clock.advance(5)
        claimed = await ask(store, worker, batch_size=4, limit=8, batch_timeout_ms=5_000)
        assert (len(claimed.leases), claimed.calls) == (5, 2)

    @pytest.mark.parametrize("ending", list(Ending))
    async def test_a_dead_owners_slots_are_free(self, store: Store, ending: Ending) -> None:
        await open_inbox(store, max_concurrency=1, max_retries=9)
        first, second = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        await claim(store, first)
        await store.reap_owner(first, an_ending(ending))
        assert len(await claim(store, second)) == 1

    async def test_a_lost_owners_slots_are_free_after_a_sweep(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, max_concurrency=1, max_retries=9)
        await send_many(store, 2)
        await claim(store, await a_worker(store))
        await clock.advance(15)
        await store.sweep()
        assert len(await claim(store, await a_worker(store))) == 1

    async def test_whoever_pulls_is_not_limited(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=1)
        await send_many(store, 5)
        assert len(await pull(store, limit=3)) == 3
        assert len(await claim(store, await a_worker(store))) == 1

    async def test_without_a_limit_nothing_is_counted(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 5)
        claimed = await ask(store, worker, calls=1)
        assert (len(claimed.leases), claimed.calls) == (5, 0)

    async def test_a_limit_may_be_raised_and_lowered_while_calls_run(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=1)
        worker = await a_worker(store)
        await send_many(store, 9)
        await claim(store, worker)
        await store.put_consumer("inbox", a_consumer(max_concurrency=3))
        assert len(await claim(store, worker)) == 2
        await store.put_consumer("inbox", a_consumer(max_concurrency=2))
        await store.settle(worker, [], ended={"inbox": 1})
        assert await claim(store, worker) == []
        await store.settle(worker, [], ended={"inbox": 1})
        assert len(await claim(store, worker)) == 1
