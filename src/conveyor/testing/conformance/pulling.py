"""T3', T5, T7: leases taken over HTTP, which end one by one and whose acks may come late."""

from __future__ import annotations

import pytest

from conveyor.model.errors import LeaseLostError
from conveyor.model.message import PULL_MS_MAX, Lease
from conveyor.model.verdict import Settlement
from conveyor.store.protocol import Store
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    claim_one,
    ids_of,
    look,
    look_at_one,
    open_inbox,
    pull,
    pull_one,
    send,
    send_many,
)
from conveyor.testing.factories import a_reject, a_release, a_retry, an_ack


@pytest.mark.anyio
class TestPulling:
    async def test_a_lease_that_is_over_returns_its_message(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await send(store)
        await pull_one(store)
        await clock.advance(29.999)
        assert await pull(store) == []
        await clock.advance(0.001)
        lease = await pull_one(store)
        assert (lease.claim, lease.attempts) == (2, 2)

    async def test_its_message_keeps_its_place(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        ids = await send_many(store, 2)
        before = (await look(store))[0].ready_at
        await pull_one(store)
        await clock.advance(30)
        assert (await store.sweep()).expired_leases == 1
        assert (await look(store))[0].ready_at == before
        assert ids_of(await pull(store)) == ids

    async def test_a_message_whose_last_lease_is_over_is_dead(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, max_retries=0)
        await send(store)
        await pull_one(store)
        await clock.advance(30)
        assert await pull(store) == []
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and (dead.reason, dead.last_error) == ("lost", "the lease ran out")

    async def test_a_late_ack_counts_once_the_message_is_ready_again(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await send(store)
        lease = await pull_one(store)
        await clock.advance(31)
        await store.sweep()
        assert (await store.settle_pulled([an_ack(lease)])).lost == []
        assert await look(store) == []

    async def test_a_late_ack_counts_though_somebody_else_has_the_message(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_inbox(store)
        await send(store)
        first = await pull_one(store)
        await clock.advance(31)
        await store.sweep()
        worker = await a_worker(store)
        second = await claim_one(store, worker)
        assert (await store.settle_pulled([an_ack(first)])).lost == []
        assert await look(store) == []
        assert (await store.settle(worker, [an_ack(second)])).lost == []

    async def test_an_ack_past_the_deadline_counts_while_nobody_reclaimed(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_inbox(store)
        await send(store)
        lease = await pull_one(store)
        await clock.advance(3_600)
        assert (await store.settle_pulled([an_ack(lease)])).lost == []
        assert await look(store) == []

    async def test_acks_of_one_call_are_judged_each_for_itself(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await send_many(store, 3)
        early = await pull(store, limit=2)
        await clock.advance(31)
        again = await pull(store, limit=1)
        other = (await pull(store, limit=2))[-1]
        assert again[0].seq == early[0].seq
        never = Settlement(other.seq, other.claim + 1)
        settled = await store.settle_pulled([an_ack(early[0]), never, an_ack(early[1]), an_ack(again[0])])
        assert settled.lost == [other.seq]
        assert [each.id for each in await look(store)] == [other.id]

    async def test_verdicts_of_one_call_follow_their_order(self, store: Store) -> None:
        await open_inbox(store)
        await send_many(store, 2)
        a, b = await pull(store)
        never = Settlement(a.seq, a.claim + 1)
        settled = await store.settle_pulled([never, an_ack(a), an_ack(a), a_reject(b), an_ack(b)])
        assert (settled.lost, settled.dead) == ([a.seq, b.seq], [b.seq])
        assert await look(store) == []

    async def test_an_ack_of_a_claim_that_never_was_is_lost(self, store: Store) -> None:
        await open_inbox(store)
        await send(store)
        lease = await pull_one(store)
        for number in (0, lease.claim + 1):
            assert (await store.settle_pulled([Settlement(lease.seq, number)])).lost == [lease.seq]
        assert len(await look(store)) == 1

    async def test_late_words_other_than_ack_are_lost(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await send(store)
        old = await pull_one(store)
        await clock.advance(31)
        await pull_one(store)
        for settlement in (a_retry(old), a_reject(old), a_release(old)):
            assert (await store.settle_pulled([settlement])).lost == [old.seq]
        assert (await look_at_one(store)).leased

    async def test_a_current_pulled_lease_may_be_retried_released_and_rejected(self, store: Store) -> None:
        await open_inbox(store)
        await send_many(store, 3)
        a, b, c = await pull(store)
        settled = await store.settle_pulled([a_retry(a, delay_ms=1_000), a_release(b), a_reject(c)])
        assert (settled.lost, settled.dead) == ([], [c.seq])
        assert [message.attempts for message in await look(store)] == [1, 0]

    async def test_a_worker_cannot_settle_a_pulled_lease_nor_the_other_way_round(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 2)
        pulled, claimed = await pull_one(store), await claim_one(store, worker)
        assert (await store.settle(worker, [an_ack(pulled)])).lost == [pulled.seq]
        assert (await store.settle_pulled([a_retry(claimed)])).lost == [claimed.seq]

    async def test_an_extended_lease_lives_longer(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await send(store)
        lease = await pull_one(store)
        await clock.advance(20)
        await store.extend(lease.seq, lease.claim, 30_000)
        await clock.advance(29.999)
        assert await pull(store) == []
        await clock.advance(0.001)
        assert len(await pull(store)) == 1

    async def test_a_lease_past_its_deadline_may_be_extended_while_nobody_reclaimed(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_inbox(store)
        await send(store)
        lease = await pull_one(store)
        await clock.advance(31)
        await store.extend(lease.seq, lease.claim, 30_000)
        assert await pull(store) == []

    async def test_no_lease_lives_longer_than_twelve_hours(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await send(store)
        lease = await pull_one(store)
        await clock.advance(10)
        await store.extend(lease.seq, lease.claim, PULL_MS_MAX)
        await clock.advance(PULL_MS_MAX / 1000 - 11)
        assert await pull(store) == []
        await clock.advance(1)
        assert len(await pull(store)) == 1

    async def test_a_lost_lease_cannot_be_extended(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await send(store)
        old = await pull_one(store)
        await clock.advance(31)
        new = await pull_one(store)
        await _refuses_to_extend(store, old)
        await store.settle_pulled([an_ack(new)])
        await _refuses_to_extend(store, new)

    async def test_the_lease_of_a_purged_message_cannot_be_extended(self, store: Store) -> None:
        await open_inbox(store)
        await send(store)
        lease = await pull_one(store)
        await store.purge("inbox")
        await _refuses_to_extend(store, lease)

    async def test_a_workers_lease_cannot_be_extended(self, store: Store) -> None:
        await open_inbox(store)
        await send(store)
        await _refuses_to_extend(store, await claim_one(store, await a_worker(store)))


async def _refuses_to_extend(store: Store, lease: Lease) -> None:
    with pytest.raises(LeaseLostError):
        await store.extend(lease.seq, lease.claim, 30_000)
