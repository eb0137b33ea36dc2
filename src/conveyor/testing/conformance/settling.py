"""T3, T4, T8: verdicts of workers on their leases."""

from __future__ import annotations

import pytest

from conveyor.model.verdict import Settlement
from conveyor.store.protocol import Store
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    claim,
    claim_one,
    ids_in,
    ids_of,
    look,
    look_at_one,
    open_inbox,
    open_queue,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_crash, a_reject, a_release, a_retry, an_ack


@pytest.mark.anyio
class TestSettling:
    async def test_an_acknowledged_message_is_gone_for_good(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        await settle(store, worker, an_ack(await claim_one(store, worker)))
        await clock.advance(3_600)
        await store.sweep()
        assert await look(store) == await look(store, DEAD) == []
        assert await claim(store, await a_worker(store)) == []

    async def test_an_ack_of_a_message_that_is_gone_is_fine(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        await settle(store, worker, an_ack(lease))
        for settlement in (an_ack(lease), a_retry(lease), a_reject(lease), a_release(lease)):
            settled = await store.settle(worker, [settlement])
            assert (settled.lost, settled.dead) == ([], [])

    async def test_only_the_holder_may_settle(self, store: Store) -> None:
        await open_inbox(store)
        holder, other = await a_worker(store), await a_worker(store)
        await send(store)
        lease = await claim_one(store, holder)
        for settlement in (an_ack(lease), a_retry(lease), a_reject(lease), a_release(lease)):
            assert (await store.settle(other, [settlement])).lost == [lease.seq]
        seen = await look_at_one(store)
        assert (seen.leased, seen.attempts) == (True, 1)

    async def test_only_the_current_lease_settles(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        old = await claim_one(store, worker)
        await settle(store, worker, a_retry(old))
        for settlement in (an_ack(old), a_retry(old), a_reject(old), a_release(old)):
            assert (await store.settle(worker, [settlement])).lost == [old.seq]
        new = await claim_one(store, worker)
        assert (await store.settle(worker, [an_ack(old)])).lost == [old.seq]
        await settle(store, worker, an_ack(new))

    async def test_the_first_verdict_wins(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        await settle(store, worker, a_retry(lease))
        assert (await store.settle(worker, [an_ack(lease)])).lost == [lease.seq]
        assert (await look_at_one(store)).attempts == 1

    async def test_the_lease_of_a_message_that_died_is_lost(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        await settle(store, worker, a_reject(lease))
        assert (await store.settle(worker, [an_ack(lease)])).lost == [lease.seq]
        assert len(await look(store, DEAD)) == 1

    async def test_one_settle_may_say_something_else_of_each(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        ids = await send_many(store, 5)
        a, b, c, d, e = await claim(store, worker)
        stale = Settlement(e.seq, e.claim + 1)
        settled = await store.settle(worker, [an_ack(a), a_retry(b), a_reject(c), a_release(d), stale])
        assert (settled.lost, settled.dead) == ([e.seq], [c.seq])
        assert await ids_in(store) == [ids[1], ids[3], ids[4]]
        assert await ids_in(store, DEAD) == [ids[2]]

    async def test_settling_nothing_does_nothing(self, store: Store) -> None:
        settled = await store.settle(await a_worker(store), [])
        assert (settled.lost, settled.dead) == ([], [])


@pytest.mark.anyio
class TestRetries:
    async def test_a_retry_waits_for_its_delay(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        await settle(store, worker, a_retry(await claim_one(store, worker), delay_ms=2_000))
        assert (await look_at_one(store)).ready_at == clock.now_ms() + 2_000
        await clock.advance(1.999)
        assert await claim(store, worker) == []
        await clock.advance(0.001)
        assert (await claim_one(store, worker)).attempts == 2

    async def test_a_retry_without_a_delay_goes_to_the_end_of_the_line(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        ids = await send_many(store, 2)
        await clock.advance(1)
        await settle(store, worker, a_retry(await claim_one(store, worker)))
        assert ids_of(await claim(store, worker)) == [ids[1], ids[0]]

    @pytest.mark.parametrize("max_retries", [0, 1, 3])
    async def test_a_message_dies_after_its_retries_and_one(self, store: Store, max_retries: int) -> None:
        await open_inbox(store, max_retries=max_retries)
        worker = await a_worker(store)
        await send(store)
        for _ in range(max_retries):
            assert await settle(store, worker, a_retry(await claim_one(store, worker))) == []
        last = await claim_one(store, worker)
        assert await settle(store, worker, a_retry(last, error="no")) == [last.seq]
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and (dead.reason, dead.last_error) == ("retries", "no")
        assert await look(store) == []

    async def test_the_messages_own_retries_come_before_the_consumers(self, store: Store) -> None:
        await open_inbox(store, max_retries=5)
        worker = await a_worker(store)
        await send(store, max_retries=0)
        lease = await claim_one(store, worker)
        assert await settle(store, worker, a_retry(lease)) == [lease.seq]

    async def test_without_a_consumer_a_message_has_three_retries_and_is_deleted(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await send(store)
        for _ in range(3):
            assert await settle(store, worker, a_retry(await claim_one(store, worker))) == []
        lease = await claim_one(store, worker)
        assert await settle(store, worker, a_retry(lease)) == [lease.seq]
        assert await look(store) == []

    async def test_a_retry_may_say_why_it_was_the_last(self, store: Store) -> None:
        await open_inbox(store, max_retries=0)
        worker = await a_worker(store)
        await send(store)
        await settle(store, worker, a_retry(await claim_one(store, worker), reason="timeout"))
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and dead.reason == "timeout"

    async def test_a_release_keeps_the_old_place_and_costs_no_attempt(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        ids = await send_many(store, 2)
        before = (await look(store))[0].ready_at
        await clock.advance(1)
        await settle(store, worker, a_release(await claim_one(store, worker)))
        seen = (await look(store))[0]
        assert (seen.ready_at, seen.attempts) == (before, 0)
        first, second = await claim(store, worker)
        assert ids_of([first, second]) == ids
        assert (first.claim, first.releases, first.attempts) == (2, 1, 1)

    async def test_a_release_may_wait(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 2)
        await settle(store, worker, a_release(await claim_one(store, worker), delay_ms=2_000))
        assert len(await claim(store, worker)) == 1
        await clock.advance(2)
        assert len(await claim(store, worker)) == 1

    async def test_releases_never_kill(self, store: Store) -> None:
        await open_inbox(store, max_retries=0)
        worker = await a_worker(store)
        await send(store)
        for _ in range(20):
            assert await settle(store, worker, a_release(await claim_one(store, worker))) == []
        lease = await claim_one(store, worker)
        assert (lease.claim, lease.attempts) == (21, 1)
        assert await settle(store, worker, a_retry(lease)) == [lease.seq]

    async def test_a_rejected_message_dies_at_once(self, store: Store) -> None:
        await open_inbox(store, max_retries=9)
        worker = await a_worker(store)
        await send_many(store, 2)
        first, second = await claim(store, worker)
        died = await settle(store, worker, a_reject(first), a_reject(second, reason="no such film", error="404"))
        assert died == [first.seq, second.seq]
        plain, worded = [message.dead for message in await look(store, DEAD)]
        assert plain is not None and (plain.reason, plain.last_error) == ("rejected", None)
        assert worded is not None and (worded.reason, worded.last_error) == ("no such film", "404")

    async def test_a_crash_in_a_child_counts_and_makes_a_suspect(self, store: Store) -> None:
        await open_inbox(store, max_retries=9)
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        for number in (1, 2):
            assert await settle(store, worker, a_crash(lease, error="killed by signal 9")) == []
            assert await claim(store, worker) == []
            lease = await claim_one(store, worker, suspects=True)
            assert (lease.crash_suspect, lease.attempts) == (True, number + 1)
        assert await settle(store, worker, a_crash(lease, error="killed by signal 9")) == [lease.seq]
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and (dead.reason, dead.last_error) == ("crashes", "killed by signal 9")

    async def test_a_crash_at_the_last_attempt_is_the_last(self, store: Store) -> None:
        await open_inbox(store, max_retries=0)
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        assert await settle(store, worker, a_crash(lease)) == [lease.seq]
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and dead.reason == "retries"
