"""T6, T12: what a message keeps when it dies and comes back, its own limit, and what no longer fits it, leases from
before."""

from __future__ import annotations

import msgspec
import pytest

from conveyor.model.errors import LeaseLostError
from conveyor.model.job import NAME_HEADER
from conveyor.model.message import ContentType, Lease
from conveyor.model.verdict import Action, Settlement
from conveyor.store.protocol import Store
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    claim_one,
    ids_in,
    look,
    look_at_one,
    open_inbox,
    pull_one,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_consumer, a_crash, a_reject, a_release, a_retry, an_ack

_GRAVEYARD = "graveyard"


async def tries(store: Store, worker: int, queue: str = "inbox") -> int:
    """How often a queue's first message is delivered until it dies, and asks for another try each time."""
    count = 0
    while True:
        lease = await claim_one(store, worker, queue=queue)
        count += 1
        assert lease.attempts == count
        if await settle(store, worker, a_retry(lease)):
            return count


@pytest.mark.anyio
class TestLimitsOfLives:
    @pytest.mark.parametrize("own", [0, 1, 4])
    async def test_a_message_that_comes_back_has_its_own_limit(self, store: Store, own: int) -> None:
        await open_inbox(store, max_retries=2)
        worker = await a_worker(store)
        await send(store, max_retries=own)
        for _ in range(3):
            assert await tries(store, worker) == own + 1
            assert await store.redrive(DEAD) == 1

    async def test_one_without_has_its_queues(self, store: Store) -> None:
        await open_inbox(store, max_retries=2)
        worker = await a_worker(store)
        await send(store)
        assert await tries(store, worker) == 3
        await store.redrive(DEAD)
        await store.put_consumer("inbox", a_consumer(max_retries=1, dead_letter_queue=DEAD))
        assert await tries(store, worker) == 2

    async def test_it_holds_for_every_end_of_a_lease(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, max_retries=5)
        worker = await a_worker(store)
        await send(store, max_retries=0)
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        for end in (a_retry, a_crash):
            await store.redrive(DEAD)
            assert await settle(store, worker, end(await claim_one(store, worker))) != [], end.__name__
        await store.redrive(DEAD)
        await pull_one(store)
        await clock.advance(30)
        await store.sweep()
        assert len(await look(store, DEAD)) == 1

    async def test_in_the_dead_letter_queue_that_queues_limit_holds(self, store: Store) -> None:
        await open_inbox(store, max_retries=5)
        await store.declare_consumer(DEAD, a_consumer(max_retries=2))
        worker = await a_worker(store)
        await send(store, max_retries=0)
        assert await tries(store, worker) == 1
        assert await tries(store, worker, DEAD) == 3

    async def test_sent_back_to_a_dead_letter_queue_it_has_that_queues(self, store: Store) -> None:
        await open_inbox(store, max_retries=5)
        await store.declare_consumer(DEAD, a_consumer(max_retries=2, dead_letter_queue=_GRAVEYARD))
        worker = await a_worker(store)
        await send(store, max_retries=0)
        assert await tries(store, worker) == 1
        assert await tries(store, worker, DEAD) == 3
        assert await store.redrive(_GRAVEYARD) == 1
        assert await tries(store, worker, DEAD) == 3

    async def test_chosen_and_edited_ones_keep_it(self, store: Store) -> None:
        await open_inbox(store, max_retries=5)
        worker = await a_worker(store)
        await send_many(store, 3, max_retries=1)
        for _ in range(3):
            await settle(store, worker, a_reject(await claim_one(store, worker)))
        was = (await look(store, DEAD))[1]
        now = await store.edit_message(was, body=b"mended", content_type=ContentType.TEXT, headers=b'{"a":1}')
        assert await store.redrive(DEAD, seqs=[now.seq]) == 1
        assert (await look_at_one(store)).body == b"mended"
        assert await tries(store, worker) == 2
        assert await store.redrive(DEAD, limit=1) == 1
        assert await tries(store, worker) == 2


@pytest.mark.anyio
class TestLeasesOfLives:
    async def test_claims_go_on_and_attempts_begin_anew(self, store: Store) -> None:
        await open_inbox(store, max_retries=1)
        await store.declare_consumer(DEAD, a_consumer(dead_letter_queue=_GRAVEYARD))
        worker = await a_worker(store)
        await send(store)
        assert await tries(store, worker) == 2
        lease = await claim_one(store, worker, queue=DEAD)
        assert (lease.claim, lease.attempts) == (3, 1)
        await settle(store, worker, a_release(lease))
        await store.redrive(DEAD)
        assert (await look_at_one(store)).attempts == 0
        assert await tries(store, worker) == 2
        assert (await claim_one(store, worker, queue=DEAD)).claim == 6

    @pytest.mark.parametrize("action", list(Action))
    async def test_a_pulled_lease_from_before_its_death_fits_no_later_one(
        self, store: Store, clock: ManualClock, action: Action
    ) -> None:
        await open_inbox(store, max_retries=1)
        id = await send(store)
        old = await self._pull_until_dead(store, clock)
        await store.redrive(DEAD)
        for number in (1, 2):  # as many as before, so that the same numbers would come
            held = await pull_one(store)
            for lease in old:
                said = Settlement(lease.seq, lease.claim, action, 0)
                assert (await store.settle_pulled([said])).lost == [lease.seq]
                with pytest.raises(LeaseLostError):
                    await store.extend(lease.seq, lease.claim, 60_000)
            seen = await look_at_one(store)
            assert (seen.id, seen.leased, seen.attempts) == (id, True, number)
            if number == 1:
                await clock.advance(30)
                await store.sweep()
        assert (await store.settle_pulled([an_ack(held)])).lost == []
        assert await look(store) == []

    async def test_a_late_ack_counts_in_the_same_life_alone(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, max_retries=1)
        id = await send(store)
        [first, _] = await self._pull_until_dead(store, clock)
        assert (await store.settle_pulled([an_ack(first)])).lost == [first.seq], "it is a dead letter now"
        in_grave = await pull_one(store, queue=DEAD)
        assert (await store.settle_pulled([an_ack(first)])).lost == [first.seq], "and somebody else's"
        await store.settle_pulled([a_release(in_grave)])
        await store.redrive(DEAD)
        for lease in (first, in_grave):
            assert (await store.settle_pulled([an_ack(lease)])).lost == [lease.seq]
        assert await ids_in(store) == [id]
        late = await pull_one(store)
        await clock.advance(30)
        await pull_one(store)
        assert (await store.settle_pulled([an_ack(late)])).lost == [], "T3'"
        assert await look(store) == []

    @pytest.mark.parametrize("action", list(Action))
    async def test_a_workers_verdict_from_before_its_death_fits_no_later_lease(
        self, store: Store, action: Action
    ) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        id = await send(store)
        old = await claim_one(store, worker)
        await settle(store, worker, a_reject(old))
        await store.redrive(DEAD)
        held = await claim_one(store, worker)
        said = Settlement(old.seq, old.claim, action, 0)
        assert (await store.settle(worker, [said])).lost == [old.seq]
        assert await store.reconcile(worker, "inbox", [(held.seq, held.claim)], calls=1) == 0
        assert (await ids_in(store), (await look_at_one(store)).leased) == ([id], True)
        assert await store.reconcile(worker, "inbox", [(old.seq, old.claim)], calls=1) == 1, "that one it does not hold"

    async def test_it_was_given_back_as_often_as_in_this_life(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        id = await send(store, headers=msgspec.json.encode({NAME_HEADER: "mail"}))
        for _ in range(3):
            await settle(store, worker, a_release(await claim_one(store, worker)))
        assert (await store.jobs.obstacles(id)).releases == 3
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        await store.redrive(DEAD)
        assert (await store.jobs.obstacles(id)).releases == 0
        await settle(store, worker, a_release(await claim_one(store, worker)))
        await claim_one(store, worker)
        assert (await store.jobs.obstacles(id)).releases == 1, "also while it is leased"

    async def _pull_until_dead(self, store: Store, clock: ManualClock) -> list[Lease]:
        leases = []
        while not await look(store, DEAD):
            leases.append(await pull_one(store))
            await clock.advance(30)
            await store.sweep()
        return leases
