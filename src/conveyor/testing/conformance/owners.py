"""T5: what becomes of the messages of a worker that is no more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conveyor.model.message import Lease
from conveyor.model.settings import QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.store.protocol import Store
from conveyor.store.records import OWNER_LEASE_MS, Ending, OwnerRow
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    ask,
    claim,
    claim_one,
    ids_of,
    look,
    look_at_one,
    open_inbox,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_draft, a_release, a_retry, an_ack, an_ending, an_owner


def started(*leases: Lease) -> frozenset[int]:
    return frozenset(lease.seq for lease in leases)


@pytest.mark.anyio
class TestOwners:
    async def test_owners_are_listed_with_their_lease(self, store: Store, clock: ManualClock) -> None:
        first = await a_worker(store, pid=1)
        second = await a_worker(store, pid=2, app="bank")
        until = clock.now_ms() + OWNER_LEASE_MS
        assert await store.list_owners() == [
            OwnerRow(owner=first, info=an_owner(pid=1), lease_until=until),
            OwnerRow(owner=second, info=an_owner(pid=2, app="bank"), lease_until=until),
        ]

    async def test_no_number_is_given_twice(self, store: Store) -> None:
        numbers = []
        for _ in range(3):
            numbers.append(await a_worker(store))
            await store.reap_owner(numbers[-1], an_ending(Ending.EXITED))
        assert len(set(numbers)) == 3 and min(numbers) > 0
        assert await store.list_owners() == []

    async def test_renewed_owners_live_on_with_all_their_leases(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        for _ in range(5):
            await clock.advance(14)
            assert await store.renew_owners([worker]) == []
            assert (await store.sweep()).owners == 0
        await settle(store, worker, an_ack(lease))

    async def test_an_owner_that_is_late_but_not_swept_is_renewed(self, store: Store, clock: ManualClock) -> None:
        worker = await a_worker(store)
        await clock.advance(100)
        assert await store.renew_owners([worker]) == []
        assert (await store.sweep()).owners == 0

    async def test_renewing_names_those_that_are_gone(self, store: Store, clock: ManualClock) -> None:
        gone = await a_worker(store)
        await clock.advance(15)
        here = await a_worker(store)
        assert (await store.sweep()).owners == 1
        assert await store.renew_owners([here, gone, 999_999]) == [gone, 999_999]
        assert [row.owner for row in await store.list_owners()] == [here]

    async def test_reaping_twice_does_nothing_more(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        await claim(store, worker)
        assert len((await store.reap_owner(worker, an_ending(Ending.EXITED))).released) == 1
        again = await store.reap_owner(worker, an_ending(Ending.CRASHED))
        assert (again.released, again.suspects, again.failed, again.dead) == ([], [], [], [])

    async def test_a_reaped_owner_may_no_longer_settle(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        await store.reap_owner(worker, an_ending(Ending.EXITED))
        assert (await store.settle(worker, [an_ack(lease)])).lost == [lease.seq]

    async def test_other_owners_keep_their_leases(self, store: Store) -> None:
        await open_inbox(store)
        dead, alive = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        await claim_one(store, dead)
        lease = await claim_one(store, alive)
        await store.reap_owner(dead, an_ending(Ending.CRASHED))
        await settle(store, alive, an_ack(lease))


@pytest.mark.anyio
class TestEndings:
    async def test_an_owner_that_exits_releases_what_it_holds(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, max_retries=0)
        worker = await a_worker(store)
        ids = await send_many(store, 2)
        ready_at = (await look(store))[0].ready_at
        a, b = await claim(store, worker)
        await clock.advance(1)
        reaped = await store.reap_owner(worker, an_ending(Ending.EXITED, started=started(a)))
        assert reaped.released == [a.seq, b.seq]
        again = await claim(store, await a_worker(store))
        assert ids_of(again) == ids
        assert [(lease.claim, lease.releases, lease.crash_suspect) for lease in again] == [(2, 1, False)] * 2
        assert {message.ready_at for message in await look(store)} == {ready_at}

    async def test_a_crash_releases_what_had_not_begun(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 3)
        a, b, c = await claim(store, worker)
        reaped = await store.reap_owner(worker, an_ending(Ending.CRASHED, started=started(b)))
        assert (reaped.released, reaped.failed) == ([a.seq, c.seq], [b.seq])
        assert (reaped.suspects, reaped.dead) == ([], [])
        assert [message.attempts for message in await look(store)] == [0, 1, 0]

    async def test_a_message_that_was_alone_in_a_crash_runs_alone_from_then_on(self, store: Store) -> None:
        await open_inbox(store)
        worker, next_worker = await a_worker(store), await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        ready_at = (await look_at_one(store)).ready_at
        await store.reap_owner(worker, an_ending(Ending.CRASHED, started=started(lease)))
        assert (await look_at_one(store)).ready_at == ready_at
        claimed = await ask(store, next_worker)
        assert (claimed.leases, claimed.suspects) == ([], True)
        claimed = await ask(store, next_worker, suspects=True)
        assert (len(claimed.leases), claimed.suspects) == (1, False)
        assert (claimed.leases[0].crash_suspect, claimed.leases[0].attempts) == (True, 2)

    async def test_the_third_crash_is_the_last(self, store: Store) -> None:
        await open_inbox(store, max_retries=9)
        await send(store)
        for number in (1, 2, 3):
            worker = await a_worker(store)
            lease = await claim_one(store, worker, suspects=number > 1)
            evidence = an_ending(Ending.CRASHED, started=started(lease), detail="killed by signal 9")
            reaped = await store.reap_owner(worker, evidence)
            assert (reaped.failed, reaped.dead) == (([], [lease.seq]) if number == 3 else ([lease.seq], []))
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and (dead.reason, dead.last_error) == ("crashes", "killed by signal 9")

    async def test_a_crash_at_the_last_attempt_spends_the_retries(self, store: Store) -> None:
        await open_inbox(store, max_retries=0)
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        reaped = await store.reap_owner(worker, an_ending(Ending.CRASHED, started=started(lease)))
        assert reaped.dead == [lease.seq]
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and dead.reason == "retries"

    async def test_several_in_a_crash_are_released_and_suspected(self, store: Store) -> None:
        await open_inbox(store, max_retries=0)
        worker, next_worker = await a_worker(store), await a_worker(store)
        await send_many(store, 3)
        a, b, c = await claim(store, worker)
        reaped = await store.reap_owner(worker, an_ending(Ending.CRASHED, started=started(a, c)))
        assert (reaped.released, reaped.suspects, reaped.failed) == ([b.seq], [a.seq, c.seq], [])
        assert [lease.seq for lease in await claim(store, next_worker)] == [b.seq]
        suspects = await claim(store, next_worker, suspects=True)
        assert [(lease.seq, lease.attempts) for lease in suspects] == [(a.seq, 1), (c.seq, 1)]

    async def test_what_was_settled_before_the_crash_is_no_evidence(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 2)
        a, b = await claim(store, worker)
        await settle(store, worker, an_ack(a))
        reaped = await store.reap_owner(worker, an_ending(Ending.CRASHED, started=started(a, b)))
        assert (reaped.failed, reaped.suspects) == ([b.seq], [])

    async def test_what_was_purged_before_the_crash_is_no_evidence(self, store: Store) -> None:
        await open_inbox(store)
        await store.create_queue("other", QueueSettings())
        worker = await a_worker(store)
        await store.append([a_draft(queue="other")])
        gone = await claim_one(store, worker, queue="other")
        await send(store)
        lease = await claim_one(store, worker)
        await store.purge("other")
        reaped = await store.reap_owner(worker, an_ending(Ending.CRASHED, started=started(gone, lease)))
        assert (reaped.failed, reaped.suspects) == ([lease.seq], [])

    async def test_ordinary_claims_pass_suspects_by(self, store: Store) -> None:
        await open_inbox(store)
        worker, next_worker = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        await store.reap_owner(worker, an_ending(Ending.CRASHED, started=started(*await claim(store, worker))))
        innocent = await send(store)
        assert ids_of(await claim(store, next_worker)) == [innocent]
        assert len(await claim(store, next_worker, suspects=True)) == 2

    @pytest.mark.parametrize("verdict", [a_retry, a_release])
    async def test_a_suspect_whose_handler_asks_for_time_is_cleared(
        self, store: Store, clock: ManualClock, verdict: Callable[..., Settlement]
    ) -> None:
        await open_inbox(store)
        worker, next_worker = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        await store.reap_owner(worker, an_ending(Ending.CRASHED, started=started(*await claim(store, worker))))
        lease = await claim_one(store, next_worker, suspects=True)
        await settle(store, next_worker, verdict(lease, delay_ms=1_000))
        await clock.advance(1)
        (again,) = await claim(store, next_worker)
        assert (again.seq, again.crash_suspect) == (lease.seq, False)

    async def test_a_suspect_given_back_unstarted_stays_one(self, store: Store) -> None:
        await open_inbox(store)
        worker, next_worker = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        await store.reap_owner(worker, an_ending(Ending.CRASHED, started=started(*await claim(store, worker))))
        await settle(store, next_worker, a_release(await claim_one(store, next_worker, suspects=True)))
        assert await claim(store, next_worker) == []
        assert len(await claim(store, next_worker, suspects=True)) == 2

    async def test_an_unstarted_suspect_stays_one_when_its_owner_ends(self, store: Store) -> None:
        await open_inbox(store)
        first, second, third = [await a_worker(store) for _ in range(3)]
        await send_many(store, 2)
        await store.reap_owner(first, an_ending(Ending.CRASHED, started=started(*await claim(store, first))))
        await claim(store, second, suspects=True)
        await store.reap_owner(second, an_ending(Ending.EXITED))
        assert await claim(store, third) == []
        assert len(await claim(store, third, suspects=True)) == 2

    async def test_a_culprit_that_would_not_end_fails_and_its_neighbours_do_not(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 3)
        a, b, c = await claim(store, worker)
        await clock.advance(1)
        evidence = an_ending(Ending.TIMED_OUT, started=started(a, b), culprit=b.seq)
        reaped = await store.reap_owner(worker, evidence)
        assert (reaped.released, reaped.failed, reaped.dead) == ([a.seq, c.seq], [b.seq], [])
        seen = await look(store)
        assert [message.attempts for message in seen] == [0, 1, 0]
        assert seen[1].ready_at == clock.now_ms()
        assert len(await claim(store, await a_worker(store))) == 3

    async def test_a_culprit_whose_retries_are_spent_dies_of_timeout(self, store: Store) -> None:
        await open_inbox(store, max_retries=0)
        worker = await a_worker(store)
        await send_many(store, 2)
        a, b = await claim(store, worker)
        reaped = await store.reap_owner(worker, an_ending(Ending.TIMED_OUT, culprit=a.seq))
        assert (reaped.dead, reaped.released) == ([a.seq], [b.seq])
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and (dead.reason, dead.last_error) == ("timeout", "timeout")

    async def test_a_lost_owner_costs_every_message_an_attempt_and_no_crash(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_inbox(store)
        await send_many(store, 2)
        await claim(store, await a_worker(store))
        before = [message.ready_at for message in await look(store)]
        await clock.advance(14.999)
        assert (await store.sweep()).owners == 0
        await clock.advance(0.001)
        assert (await store.sweep()).owners == 1
        assert [message.ready_at for message in await look(store)] == before
        again = await claim(store, await a_worker(store))
        assert [(lease.attempts, lease.crash_suspect) for lease in again] == [(2, False)] * 2

    async def test_a_lost_owner_at_the_last_attempt_loses_the_message(self, store: Store) -> None:
        await open_inbox(store, max_retries=0)
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        reaped = await store.reap_owner(worker, an_ending(Ending.LOST, detail="no heartbeat"))
        assert (reaped.dead, reaped.failed) == ([lease.seq], [])
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and (dead.reason, dead.last_error) == ("lost", "no heartbeat")
