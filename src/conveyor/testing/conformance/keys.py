"""Ordered keys, and how many of a key may be leased at once."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor.model.message import Lease
from conveyor.model.rate import Rate
from conveyor.store.protocol import Store
from conveyor.store.records import Ending
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    claim,
    claim_one,
    ids_of,
    look,
    open_inbox,
    open_queue,
    pull,
    pull_one,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_consumer, a_reject, a_release, a_retry, an_ack, an_ending


@pytest.mark.anyio
class TestOrderedKeys:
    async def test_one_message_of_a_key_is_out_at_a_time_in_the_order_of_sending(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        ids = await send_many(store, 3, key="k")
        for id in ids:
            (lease,) = await claim(store, worker)
            assert lease.id == id
            assert await claim(store, worker) == []
            await settle(store, worker, an_ack(lease))

    async def test_blocked_messages_hold_no_other_key_up(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        first = (await send_many(store, 30, key="a"))[0]
        other, free = await send(store, key="b"), await send(store)
        assert ids_of(await claim(store, worker, limit=3)) == [first, other, free]

    @pytest.mark.parametrize("gate", [{"ordered": True}, {"key_concurrency": 1}, {"key_rate": Rate(1, 60_000)}])
    async def test_one_of_a_key_may_go_while_another_is_past_its_end(
        self, store: Store, clock: ManualClock, gate: dict[str, Any]
    ) -> None:
        await open_inbox(store, **gate)
        worker = await a_worker(store)
        first = await send(store, key="k")
        late = await send(store, key="k", expires_in_ms=1_000)
        await clock.advance(2)
        assert ids_of(await claim(store, worker)) == [first]
        assert [message.id for message in await look(store, DEAD)] == [late]
        await send(store, key="k")
        assert await claim(store, worker) == []

    async def test_a_message_that_is_met_before_its_head_goes_when_that_is_past_its_end(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        await send(store, key="k", priority=0, expires_in_ms=1_000)
        second = await send(store, key="k", priority=9)
        await clock.advance(2)
        assert ids_of(await claim(store, worker) + await claim(store, worker)) == [second]

    async def test_messages_without_a_key_are_free(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        await send_many(store, 3)
        assert len(await claim(store, await a_worker(store))) == 3

    async def test_a_delayed_head_blocks_its_key(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        head = await send(store, key="k", delay_ms=5_000)
        await send(store, key="k")
        assert await claim(store, worker) == []
        await clock.advance(5)
        assert ids_of(await claim(store, worker)) == [head]

    async def test_a_retrying_head_blocks_its_key(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        ids = await send_many(store, 2, key="k")
        await settle(store, worker, a_retry(await claim_one(store, worker), delay_ms=5_000))
        assert await claim(store, worker) == []
        await clock.advance(5)
        assert ids_of(await claim(store, worker)) == ids[:1]

    async def test_a_released_head_goes_again_first(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        ids = await send_many(store, 2, key="k")
        await settle(store, worker, a_release(await claim_one(store, worker)))
        assert ids_of(await claim(store, worker)) == ids[:1]

    async def test_priority_means_nothing_within_a_key(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        low = await send(store, key="k", priority=0)
        await send(store, key="k", priority=9)
        assert ids_of(await claim(store, worker)) == [low]

    async def test_a_dead_head_lets_the_next_go(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        ids = await send_many(store, 2, key="k")
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        assert ids_of(await claim(store, worker)) == ids[1:]
        assert len(await look(store, DEAD)) == 1

    async def test_a_swept_head_lets_the_next_go(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        old, young = await send(store, key="k"), await send(store, key="k", delay_ms=86_400_000)
        await clock.advance(4 * 86_400 + 1)
        worker = await a_worker(store)
        await store.sweep()
        assert [message.id for message in await look(store, DEAD)] == [old]
        assert ids_of(await claim(store, worker)) == [young]

    async def test_a_redriven_message_takes_its_old_place_in_its_key(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        ids = await send_many(store, 2, key="k")
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        await store.redrive(DEAD)
        (lease,) = await claim(store, worker)
        assert lease.id == ids[0]
        await settle(store, worker, an_ack(lease))
        assert ids_of(await claim(store, worker)) == ids[1:]

    @pytest.mark.parametrize("is_retried", [False, True])
    async def test_a_redriven_message_waits_for_a_later_one_that_runs(self, store: Store, is_retried: bool) -> None:
        await open_inbox(store, ordered=True)
        worker, other = await a_worker(store), await a_worker(store)
        ids = await send_many(store, 3, key="k")
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        running = await claim_one(store, worker)
        await store.redrive(DEAD)
        assert await claim(store, other) == [], "one of a key at a time"
        await settle(store, worker, a_release(running) if is_retried else an_ack(running))
        for expected in [ids[0], *ids[1 if is_retried else 2 :]]:
            lease = await claim_one(store, other)
            assert lease.id == expected
            assert await claim(store, worker) == []
            await settle(store, other, an_ack(lease))

    async def test_a_pulled_head_blocks_its_key_until_its_lease_is_over(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ordered=True)
        ids = await send_many(store, 2, key="k")
        await pull_one(store)
        assert await pull(store) == []
        await clock.advance(30)
        assert ids_of(await pull(store)) == ids[:1]

    async def test_a_late_ack_of_the_head_lets_the_next_go(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ordered=True)
        ids = await send_many(store, 2, key="k")
        lease = await pull_one(store)
        await clock.advance(31)
        await store.sweep()
        await store.settle_pulled([an_ack(lease)])
        assert ids_of(await pull(store)) == ids[1:]

    async def test_a_reaped_owner_gives_its_keys_back(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        first, second = await a_worker(store), await a_worker(store)
        ids = await send_many(store, 2, key="k")
        await claim_one(store, first)
        await store.reap_owner(first, an_ending(Ending.EXITED))
        assert ids_of(await claim(store, second)) == ids[:1]

    async def test_keys_of_different_queues_are_different(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        await store.declare_consumer("other", a_consumer(ordered=True))
        worker = await a_worker(store)
        await send(store, key="k")
        await send(store, key="k", queue="other")
        assert len(await claim(store, worker)) == len(await claim(store, worker, queue="other")) == 1

    async def test_without_a_consumer_that_asks_keys_mean_nothing(self, store: Store) -> None:
        await open_inbox(store)
        await open_queue(store, "bare")
        worker = await a_worker(store)
        await send_many(store, 3, key="k")
        await send_many(store, 3, key="k", queue="bare")
        assert len(await claim(store, worker)) == len(await claim(store, worker, queue="bare")) == 3

    async def test_keys_are_heeded_from_the_moment_a_consumer_asks(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        ids = await send_many(store, 3, key="k")
        lease = await claim_one(store, worker)
        await store.put_consumer("inbox", a_consumer(ordered=True, dead_letter_queue=DEAD))
        assert await claim(store, worker) == []
        await settle(store, worker, an_ack(lease))
        assert ids_of(await claim(store, worker)) == ids[1:2]

    async def test_keys_are_free_from_the_moment_no_consumer_asks(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        ids = await send_many(store, 3, key="k")
        await claim_one(store, worker)
        await store.put_consumer("inbox", a_consumer())
        assert ids_of(await claim(store, worker)) == ids[1:]

    async def test_batches_are_made_of_different_keys(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        a, b = await send_many(store, 2, key="a"), await send_many(store, 2, key="b")
        assert ids_of(await claim(store, worker, batch_size=2, batch_timeout_ms=5_000)) == [a[0], b[0]]


@pytest.mark.anyio
class TestKeyConcurrency:
    async def test_so_many_of_a_key_are_out_at_once(self, store: Store) -> None:
        await open_inbox(store, key_concurrency=2)
        first, second = await a_worker(store), await a_worker(store)
        ids = await send_many(store, 4, key="k")
        leases = await claim(store, first, limit=1) + await claim(store, second)
        assert ids_of(leases) == ids[:2]
        assert await claim(store, first) == []
        await settle(store, first, an_ack(leases[0]))
        assert ids_of(await claim(store, second)) == ids[2:3]

    async def test_a_suspect_waits_while_its_key_is_taken(self, store: Store) -> None:
        await open_inbox(store, key_concurrency=1)
        first, second = await a_worker(store), await a_worker(store)
        await send(store, key="k")
        await send(store, key="k")
        lease = await claim_one(store, first)
        await store.reap_owner(first, an_ending(Ending.CRASHED, started=frozenset({lease.seq})))
        other = await claim_one(store, second)
        assert await claim(store, second, suspects=True) == []
        await settle(store, second, an_ack(other))
        assert [each.seq for each in await claim(store, second, suspects=True)] == [lease.seq]

    async def test_other_keys_have_a_count_of_their_own(self, store: Store) -> None:
        await open_inbox(store, key_concurrency=2)
        for key in ("a", "b"):
            await send_many(store, 3, key=key)
        keys = sorted(str(lease.key) for lease in await claim(store, await a_worker(store)))
        assert keys == ["a", "a", "b", "b"]

    async def test_no_order_is_promised_so_that_a_delayed_head_blocks_nobody(self, store: Store) -> None:
        await open_inbox(store, key_concurrency=1)
        await send(store, key="k", delay_ms=60_000)
        ready = await send(store, key="k")
        assert ids_of(await claim(store, await a_worker(store))) == [ready]

    async def test_priority_holds_among_those_that_wait_for_their_key(self, store: Store) -> None:
        await open_inbox(store, key_concurrency=1)
        worker = await a_worker(store)
        first = await send(store, key="k", priority=9)
        low, high = await send(store, key="k", priority=0), await send(store, key="k", priority=8)
        (lease,) = await claim(store, worker)
        assert lease.id == first
        await settle(store, worker, an_ack(lease))
        (lease,) = await claim(store, worker)
        assert lease.id == high
        await settle(store, worker, an_ack(lease))
        assert ids_of(await claim(store, worker)) == [low]

    async def test_retried_and_released_messages_make_room(self, store: Store) -> None:
        await open_inbox(store, key_concurrency=1)
        worker = await a_worker(store)
        ids = await send_many(store, 3, key="k")

        async def next_one() -> Lease:
            (lease,) = await claim(store, worker)
            return lease

        await settle(store, worker, a_retry(await next_one(), delay_ms=60_000))
        lease = await next_one()
        assert lease.id == ids[1]
        await settle(store, worker, a_release(lease, delay_ms=60_000))
        assert (await next_one()).id == ids[2]

    async def test_pulled_leases_count_too(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, key_concurrency=1)
        await send_many(store, 2, key="k")
        assert len(await pull(store)) == 1
        assert await claim(store, await a_worker(store)) == []
        await clock.advance(30)
        await store.sweep()
        assert len(await claim(store, await a_worker(store))) == 1
