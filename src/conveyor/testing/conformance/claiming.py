"""T2: who gets which message, when, and when to ask again."""

from __future__ import annotations

import pytest

from conveyor.model.errors import QueueNotFoundError
from conveyor.model.settings import QueueSettings
from conveyor.store.protocol import Store
from conveyor.store.records import PULL_OWNER, Ending
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    a_worker,
    ask,
    claim,
    claim_one,
    ids_of,
    look_at_one,
    open_inbox,
    open_queue,
    pull,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_release, a_retry, an_ending


@pytest.mark.anyio
class TestClaiming:
    async def test_higher_priority_goes_first(self, store: Store) -> None:
        await open_queue(store)
        ids = {priority: await send(store, priority=priority) for priority in (5, 0, 9, 2, 8, 1, 7, 3, 6, 4)}
        leases = await claim(store, await a_worker(store))
        assert ids_of(leases) == [ids[priority] for priority in range(9, -1, -1)]

    async def test_within_a_priority_the_longest_ready_goes_first(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        late = await send(store, delay_ms=2_000)
        early = await send(store, delay_ms=1_000)
        tied = await send(store, delay_ms=1_000)
        await clock.advance(3)
        assert ids_of(await claim(store, await a_worker(store))) == [early, tied, late]

    async def test_a_limit_takes_the_first_of_all_priorities(self, store: Store) -> None:
        await open_queue(store)
        low, high, normal = [await send(store, priority=priority) for priority in (1, 9, 5)]
        worker = await a_worker(store)
        assert ids_of(await claim(store, worker, limit=2)) == [high, normal]
        assert ids_of(await claim(store, worker, limit=2)) == [low]

    async def test_a_delayed_message_of_high_priority_holds_nobody_up(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        high = await send(store, priority=9, delay_ms=1_000)
        low = await send(store, priority=0)
        worker = await a_worker(store)
        assert ids_of(await claim(store, worker)) == [low]
        await clock.advance(1)
        assert ids_of(await claim(store, worker)) == [high]

    async def test_two_live_leases_of_one_message_never_exist(self, store: Store) -> None:
        await open_queue(store)
        await send_many(store, 6)
        workers = [await a_worker(store) for _ in range(3)]
        leases = [lease for worker in workers for lease in await claim(store, worker, limit=2)]
        assert len({lease.seq for lease in leases}) == 6
        assert await claim(store, workers[0]) == [] == await pull(store)

    async def test_each_claim_counts_one(self, store: Store) -> None:
        await open_inbox(store, max_retries=9)
        worker = await a_worker(store)
        await send(store)
        for number in (1, 2, 3):
            lease = await claim_one(store, worker)
            assert (lease.claim, lease.attempts) == (number, number)
            await settle(store, worker, a_retry(lease))

    async def test_no_message_is_claimed_before_its_moment(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await send(store, delay_ms=1_000)
        await clock.advance(0.999)
        assert await claim(store, worker) == []
        await clock.advance(0.001)
        assert len(await claim(store, worker)) == 1

    async def test_a_leased_message_shows_as_leased(self, store: Store) -> None:
        await open_queue(store)
        await send(store)
        await claim(store, await a_worker(store))
        seen = await look_at_one(store)
        assert (seen.leased, seen.attempts) == (True, 1)

    async def test_other_queues_are_left_alone(self, store: Store) -> None:
        await open_queue(store)
        await open_queue(store, "other")
        await send(store, queue="other")
        worker = await a_worker(store)
        assert await claim(store, worker) == []
        assert len(await claim(store, worker, queue="other")) == 1

    async def test_a_missing_queue_cannot_be_claimed_from(self, store: Store) -> None:
        with pytest.raises(QueueNotFoundError):
            await ask(store, PULL_OWNER, queue="nowhere")

    async def test_an_owner_that_is_gone_gets_nothing(self, store: Store) -> None:
        await open_queue(store)
        await send(store)
        worker = await a_worker(store)
        await store.reap_owner(worker, an_ending(Ending.EXITED))
        assert await claim(store, worker) == []
        assert not (await look_at_one(store)).leased

    async def test_the_answer_says_when_the_next_delay_ends(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        assert (await ask(store, worker)).opens_at is None
        await send(store, priority=1, delay_ms=3_000)
        await send(store, priority=9, delay_ms=4_000)
        await send(store)
        claimed = await ask(store, worker)
        assert len(claimed.leases) == 1
        assert claimed.opens_at == clock.now_ms() + 3_000

    async def test_a_claim_that_reached_its_limit_names_no_moment(self, store: Store) -> None:
        await open_queue(store)
        await send_many(store, 3)
        claimed = await ask(store, await a_worker(store), limit=2)
        assert (len(claimed.leases), claimed.opens_at) == (2, None)

    async def test_the_version_grows_with_every_change_of_the_queue(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        versions = [(await ask(store, worker)).version]
        for change in (
            store.update_queue("inbox", QueueSettings(retention_ms=60_000)),
            store.pause("inbox"),
            store.resume("inbox"),
            store.put_consumer("inbox", None),
        ):
            await change
            claimed = await ask(store, worker)
            assert claimed.version == (await store.get_queue("inbox")).version
            versions.append(claimed.version)
        assert versions == sorted(set(versions))
        await send(store)
        assert (await ask(store, worker)).version == versions[-1]

    async def test_a_throttled_queue_rests(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await send_many(store, 2)
        lease = await claim_one(store, worker)
        await settle(store, worker, a_release(lease, delay_ms=5_000, throttles=True))
        claimed = await ask(store, worker)
        assert (claimed.leases, claimed.opens_at) == ([], clock.now_ms() + 5_000)
        assert await pull(store) == []
        await clock.advance(5)
        assert len(await claim(store, worker)) == 2

    async def test_a_shorter_throttle_does_not_end_a_longer_one(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await send_many(store, 2)
        first, second = await claim(store, worker)
        await settle(
            store,
            worker,
            a_release(first, delay_ms=5_000, throttles=True),
            a_release(second, delay_ms=1_000, throttles=True),
        )
        assert (await ask(store, worker)).opens_at == clock.now_ms() + 5_000


@pytest.mark.anyio
class TestBatches:
    async def test_full_batches_go_at_once_and_the_rest_waits(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        ids = await send_many(store, 7)
        claimed = await ask(store, worker, limit=30, batch_size=3, batch_timeout_ms=5_000)
        assert ids_of(claimed.leases) == ids[:6]
        assert claimed.opens_at == clock.now_ms() + 5_000

    async def test_the_rest_goes_once_its_oldest_has_waited(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await send(store)
        await clock.advance(4)
        await send(store)
        await clock.advance(0.999)
        assert await claim(store, worker, batch_size=3, batch_timeout_ms=5_000) == []
        await clock.advance(0.001)
        assert len(await claim(store, worker, batch_size=3, batch_timeout_ms=5_000)) == 2

    async def test_a_message_fills_the_batch_at_once(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await send_many(store, 2)
        assert await claim(store, worker, batch_size=3, batch_timeout_ms=5_000) == []
        await send(store)
        assert len(await claim(store, worker, batch_size=3, batch_timeout_ms=5_000)) == 3

    async def test_waiting_begins_when_a_delayed_message_is_ready(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await send(store, delay_ms=10_000)
        await clock.advance(10)
        claimed = await ask(store, worker, batch_size=2, batch_timeout_ms=5_000)
        assert (claimed.leases, claimed.opens_at) == ([], clock.now_ms() + 5_000)

    async def test_a_delay_that_may_fill_the_batch_is_told_before_its_timeout(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_queue(store)
        await send(store)
        await send(store, delay_ms=1_000)
        claimed = await ask(store, await a_worker(store), batch_size=2, batch_timeout_ms=5_000)
        assert (claimed.leases, claimed.opens_at) == ([], clock.now_ms() + 1_000)

    async def test_a_limit_is_cut_to_whole_batches(self, store: Store) -> None:
        await open_queue(store)
        await send_many(store, 9)
        assert len(await claim(store, await a_worker(store), limit=8, batch_size=3, batch_timeout_ms=5_000)) == 6

    async def test_a_limit_below_one_batch_takes_one(self, store: Store) -> None:
        await open_queue(store)
        await send_many(store, 9)
        assert len(await claim(store, await a_worker(store), limit=1, batch_size=3, batch_timeout_ms=5_000)) == 3

    async def test_without_a_timeout_nothing_waits(self, store: Store) -> None:
        await open_queue(store)
        await send_many(store, 2)
        assert len(await claim(store, await a_worker(store), batch_size=3, batch_timeout_ms=0)) == 2

    async def test_a_batch_is_filled_across_priorities(self, store: Store) -> None:
        await open_queue(store)
        low, high = await send(store, priority=1), await send(store, priority=8)
        assert ids_of(await claim(store, await a_worker(store), batch_size=2, batch_timeout_ms=5_000)) == [high, low]

    async def test_a_batch_left_alone_costs_no_attempt(self, store: Store) -> None:
        await open_queue(store)
        await send(store)
        assert await claim(store, await a_worker(store), batch_size=2, batch_timeout_ms=5_000) == []
        seen = await look_at_one(store)
        assert (seen.leased, seen.attempts) == (False, 0)
