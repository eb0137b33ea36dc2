"""What an owner holds, stated by itself after an answer was lost."""

from __future__ import annotations

import pytest

from conveyor.model.errors import QueueNotFoundError
from conveyor.model.message import Lease
from conveyor.store.protocol import Store
from conveyor.store.records import Ending
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    ask,
    claim,
    claim_one,
    look,
    open_inbox,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_draft, a_retry, an_ack, an_ending


def held(*leases: Lease) -> list[tuple[int, int]]:
    return [(lease.seq, lease.claim) for lease in leases]


@pytest.mark.anyio
class TestReconciling:
    async def test_what_an_owner_does_not_know_is_ready_again_in_its_old_place(self, store: Store) -> None:
        await open_inbox(store, max_retries=0)
        worker = await a_worker(store)
        await send_many(store, 3)
        ready_at = (await look(store))[0].ready_at
        a, b, c = await claim(store, worker)
        assert await store.reconcile(worker, "inbox", held(b), calls=0) == 2
        again = await claim(store, await a_worker(store))
        assert [(lease.seq, lease.claim, lease.releases) for lease in again] == [(a.seq, 2, 1), (c.seq, 2, 1)]
        assert {message.ready_at for message in await look(store)} == {ready_at}
        await settle(store, worker, an_ack(b))
        assert (await store.settle(worker, [an_ack(a)])).lost == [a.seq]

    async def test_an_owner_that_knows_all_of_it_loses_nothing(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 3)
        leases = await claim(store, worker)
        assert await store.reconcile(worker, "inbox", held(*leases), calls=0) == 0
        await settle(store, worker, *map(an_ack, leases))

    async def test_a_lease_is_known_by_its_claim(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        first = await claim_one(store, worker)
        await settle(store, worker, a_retry(first))
        await claim_one(store, worker)
        assert await store.reconcile(worker, "inbox", held(first), calls=0) == 1

    async def test_other_owners_and_other_queues_are_left_alone(self, store: Store) -> None:
        await open_inbox(store)
        worker, other = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        theirs = await claim_one(store, other)
        await store.append([a_draft(queue=DEAD)])
        elsewhere = await claim_one(store, worker, queue=DEAD)
        await claim_one(store, worker)
        assert await store.reconcile(worker, "inbox", [], calls=0) == 1
        await settle(store, other, an_ack(theirs))
        await settle(store, worker, an_ack(elsewhere))

    async def test_twice_is_as_good_as_once(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=5)
        worker = await a_worker(store)
        await send_many(store, 9)
        leases = (await ask(store, worker, calls=3)).leases
        assert await store.reconcile(worker, "inbox", held(leases[0]), calls=1) == 2
        assert await store.reconcile(worker, "inbox", held(leases[0]), calls=1) == 0
        assert (await ask(store, await a_worker(store))).calls == 4

    async def test_slots_are_as_many_as_the_owner_says(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=3)
        worker, other = await a_worker(store), await a_worker(store)
        await send_many(store, 9)
        leases = await claim(store, worker, limit=3)
        await store.settle(worker, [], ended={"inbox": 1})
        await store.settle(worker, [], ended={"inbox": 1})  # as if the first answer had been lost
        await store.reconcile(worker, "inbox", held(*leases), calls=2)
        assert (await ask(store, other)).calls == 1

    async def test_an_owner_without_slots_has_none(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=1)
        worker = await a_worker(store)
        await send_many(store, 2)
        await claim(store, worker)
        assert await store.reconcile(worker, "inbox", [], calls=0) == 1
        assert (await ask(store, await a_worker(store))).calls == 1

    async def test_a_reaped_owner_has_nothing_to_state(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=1)
        worker = await a_worker(store)
        await send_many(store, 2)
        await claim(store, worker)
        await store.reap_owner(worker, an_ending(Ending.EXITED))
        assert await store.reconcile(worker, "inbox", [], calls=1) == 0
        assert len(await claim(store, await a_worker(store))) == 1

    async def test_a_suspect_that_is_given_back_stays_one(self, store: Store) -> None:
        await open_inbox(store)
        worker, other = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        started = frozenset(lease.seq for lease in await claim(store, worker))
        await store.reap_owner(worker, an_ending(Ending.CRASHED, started=started))
        await claim(store, other, suspects=True)
        assert await store.reconcile(other, "inbox", [], calls=0) == 2
        assert await claim(store, other) == []
        assert len(await claim(store, other, suspects=True)) == 2

    async def test_an_ordered_key_goes_on_where_it_was(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        await send_many(store, 2, key="k")
        first = await claim_one(store, worker)
        assert await store.reconcile(worker, "inbox", [], calls=0) == 1
        assert [lease.seq for lease in await claim(store, worker)] == [first.seq]

    async def test_purged_messages_are_not_given_back(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        await claim(store, worker)
        await store.purge("inbox")
        assert await store.reconcile(worker, "inbox", [], calls=0) == 0
        assert await look(store) == []

    async def test_a_queue_that_is_not_there_is_named(self, store: Store) -> None:
        with pytest.raises(QueueNotFoundError):
            await store.reconcile(await a_worker(store), "nowhere", [], calls=0)
