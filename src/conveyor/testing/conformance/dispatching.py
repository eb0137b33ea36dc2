"""Modes of dispatch: by the clock, by alarm, and the change from one to another while messages wait and run."""

from __future__ import annotations

import itertools

import pytest

from conveyor.model.dispatch import Dispatch
from conveyor.model.errors import QueueFullError
from conveyor.model.message import Lease
from conveyor.model.rate import Rate
from conveyor.store.protocol import Store
from conveyor.store.records import Ending
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import a_worker, ask, claim, claim_one, open_inbox, send, send_many, settle
from conveyor.testing.factories import a_claim, a_consumer, a_draft, a_queue, a_release, a_retry, an_ack, an_ending

MINUTE_MS = 60_000
SECOND_MS = 1_000


async def to_the_minute(clock: ManualClock) -> int:
    """The next tick of `* * * * *`, which it is now."""
    await clock.advance((MINUTE_MS - clock.now_ms() % MINUTE_MS) / 1000)
    return clock.now_ms()


async def end(store: Store, worker: int, *leases: Lease) -> None:
    """Ack these; their calls are over."""
    await store.settle(worker, [an_ack(lease) for lease in leases], ended={"inbox": len(leases)})


@pytest.mark.anyio
class TestClocks:
    async def test_one_message_goes_at_a_tick_and_it_is_the_first(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON)
        workers = [await a_worker(store), await a_worker(store)]
        await to_the_minute(clock)
        await clock.advance(1)
        sent = await send_many(store, 3)
        assert [await claim(store, worker) for worker in workers] == [[], []]
        for each in sent:
            await to_the_minute(clock)
            lease = await claim_one(store, workers[0])
            assert lease.id == each
            assert await claim(store, workers[1]) == []
            await end(store, workers[0], lease)
            assert [await claim(store, worker) for worker in workers] == [[], []]

    async def test_a_tick_that_finds_nothing_is_over_and_claims_are_told_of_the_next(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON)
        worker = await a_worker(store)
        tick = await to_the_minute(clock)
        assert (await ask(store, worker)).opens_at == tick + MINUTE_MS
        await clock.advance(0.001)
        await send(store)
        early = await ask(store, worker)
        assert (early.leases, early.opens_at) == ([], tick + MINUTE_MS)
        await to_the_minute(clock)
        claimed = await ask(store, worker)
        assert (len(claimed.leases), claimed.opens_at) == (1, tick + 2 * MINUTE_MS)

    async def test_the_last_tick_is_made_up_for_and_ticks_do_not_add_up(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON, dispatch_messages=2, max_concurrency=9)
        await send_many(store, 9)
        await to_the_minute(clock)
        await clock.advance(3 * MINUTE_MS / 1000 + 40)
        assert len(await claim(store, await a_worker(store))) == 2

    @pytest.mark.parametrize(("back_s", "waits_ticks"), [(20, 2), (3_600, 0)])
    async def test_a_clock_that_is_set_back_holds_nothing_up(
        self, store: Store, clock: ManualClock, back_s: int, waits_ticks: int
    ) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON)
        await send_many(store, 3)
        await clock.advance(7_200)
        worker = await a_worker(store)
        await to_the_minute(clock)
        await end(store, worker, await claim_one(store, worker))
        clock.step_back(back_s)
        for _ in range(waits_ticks):
            assert await claim(store, worker) == [], "what a tick has served it does not serve again"
            await to_the_minute(clock)
        assert len(await claim(store, worker)) == 1
        assert await claim(store, worker) == []

    async def test_several_messages_of_a_tick_go_one_after_another(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON, dispatch_messages=3)
        one, other = await a_worker(store), await a_worker(store)
        sent = await send_many(store, 5)
        await to_the_minute(clock)
        for each in sent[:3]:
            lease = await claim_one(store, one)
            assert lease.id == each
            assert await claim(store, other) == []
            await end(store, one, lease)
        assert await claim(store, one) == []

    async def test_max_concurrency_says_how_many_run_at_once_and_a_batch_is_what_goes_at_a_tick(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON, dispatch_messages=5, max_concurrency=3)
        worker = await a_worker(store)
        await send_many(store, 18)
        await to_the_minute(clock)
        leases = await claim(store, worker)
        assert len(leases) == 3
        await end(store, worker, *leases)
        leases = await claim(store, worker)
        assert len(leases) == 2
        await end(store, worker, *leases)
        await to_the_minute(clock)
        claimed = await ask(store, worker, batch_size=10)
        assert (len(claimed.leases), claimed.calls) == (5, 1)

    async def test_a_tick_waits_for_the_call_before_it(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON)
        worker = await a_worker(store)
        await send_many(store, 2)
        await to_the_minute(clock)
        lease = await claim_one(store, worker)
        await clock.advance(90)
        assert await claim(store, worker) == []
        await end(store, worker, lease)
        assert len(await claim(store, worker)) == 1

    async def test_priorities_delays_and_keys_hold(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON, ordered=True)
        worker = await a_worker(store)
        await send(store, delay_ms=10 * MINUTE_MS, priority=9)
        low = await send(store, priority=1)
        first, second = await send(store, key="a", priority=5), await send(store, key="a", priority=8)
        for expected in (first, second, low):
            await to_the_minute(clock)
            lease = await claim_one(store, worker)
            assert lease.id == expected
            await end(store, worker, lease)
        await to_the_minute(clock)
        assert await claim(store, worker) == []

    async def test_keys_take_turns_at_ticks(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON, fair=True)
        worker = await a_worker(store)
        for key in ("a", "a", "a", "b"):
            await send(store, key=key)
        gone = []
        for _ in range(4):
            await to_the_minute(clock)
            [lease] = await claim(store, worker)
            gone.append(lease.key)
            await end(store, worker, lease)
        assert gone == ["a", "b", "a", "a"]

    async def test_what_its_worker_died_of_waits_for_the_next_tick(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON)
        worker, other = await a_worker(store), await a_worker(store)
        sent = await send_many(store, 2)
        await to_the_minute(clock)
        lease = await claim_one(store, worker)
        await store.reap_owner(worker, an_ending(Ending.LOST))
        assert await claim(store, other) == []
        await to_the_minute(clock)
        again = await claim_one(store, other)
        assert (again.id, again.claim) == (sent[0], lease.claim + 1)

    async def test_a_rate_keeps_the_rest_of_a_tick_for_later(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(
            store, dispatch=Dispatch.CRON, dispatch_messages=3, rate=Rate(2, 10 * SECOND_MS), max_concurrency=9
        )
        worker = await a_worker(store)
        await send_many(store, 9)
        await to_the_minute(clock)
        assert len(await claim(store, worker)) == 2
        await clock.advance(12)
        assert len(await claim(store, worker)) == 1
        await clock.advance(12)
        assert await claim(store, worker) == []


@pytest.mark.anyio
class TestDispatchByAlarm:
    async def test_the_first_goes_after_a_second(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.ALARM)
        worker = await a_worker(store)
        await send(store)
        now = clock.now_ms()
        early = await ask(store, worker)
        assert (early.leases, early.opens_at) == ([], now + SECOND_MS)
        await clock.advance(1)
        assert len(await claim(store, worker)) == 1

    async def test_each_other_goes_when_the_one_before_has_ended(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.ALARM, max_concurrency=7)
        one, other = await a_worker(store), await a_worker(store)
        sent = await send_many(store, 4)
        await clock.advance(1)
        for each, worker in zip(sent, itertools.cycle((one, other))):
            lease = await claim_one(store, worker)
            assert lease.id == each
            assert [await claim(store, each) for each in (one, other)] == [[], []]
            await end(store, worker, lease)

    async def test_the_death_of_a_worker_lets_the_next_go(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.ALARM)
        worker, other = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        await clock.advance(1)
        first = await claim_one(store, worker)
        assert await claim(store, other) == []
        await clock.advance(16)
        await store.renew_owners([other])
        await store.sweep()
        assert (await claim_one(store, other)).id == first.id

    async def test_a_failure_and_a_release_let_the_next_go(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.ALARM)
        worker = await a_worker(store)
        sent = await send_many(store, 2)
        await clock.advance(1)
        await store.settle(worker, [a_retry(await claim_one(store, worker), delay_ms=5)], ended={"inbox": 1})
        second = await claim_one(store, worker)
        assert second.id == sent[1]
        await store.settle(worker, [a_release(second)], ended={"inbox": 1})
        assert (await claim_one(store, worker)).id == sent[1]

    async def test_it_waits_for_those_that_ran_when_the_mode_was_changed(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_inbox(store)
        worker, other = await a_worker(store), await a_worker(store)
        await send_many(store, 5)
        running = await claim(store, worker, limit=3)
        await store.put_consumer("inbox", a_consumer(dispatch=Dispatch.ALARM))
        await clock.advance(1)
        assert await claim(store, other) == []
        await settle(store, worker, *map(an_ack, running[:2]))
        assert await claim(store, other) == []
        await settle(store, worker, an_ack(running[2]))
        assert len(await claim(store, other)) == 1


@pytest.mark.anyio
class TestSendsThatClaim:
    async def test_what_is_sent_comes_leased_and_the_death_of_its_worker_brings_it_back(self, store: Store) -> None:
        await open_inbox(store)
        worker, other = await a_worker(store), await a_worker(store)
        draft = a_draft(key="k", priority=7)
        [sent], claimed = await store.append_and_claim([draft], a_claim(owner=worker, limit=1))
        assert sent.id == draft.id
        [lease] = claimed.leases
        assert (lease.id, lease.claim, lease.body, lease.key) == (draft.id, 1, draft.body, "k")
        [peeked] = await store.peek("inbox", limit=9)
        assert peeked.leased
        assert await claim(store, other) == []
        await store.reap_owner(worker, an_ending(Ending.LOST))
        again = await claim_one(store, other)
        assert again.claim == 2
        await settle(store, other, an_ack(again))
        assert (await store.metrics("inbox")).backlog_messages == 0

    async def test_a_worker_that_is_gone_gets_nothing_and_the_send_stands(self, store: Store) -> None:
        await open_inbox(store)
        gone = await a_worker(store)
        await store.reap_owner(gone, an_ending(Ending.EXITED))
        _, claimed = await store.append_and_claim([a_draft()], a_claim(owner=gone))
        assert claimed.leases == []
        assert len(await claim(store, await a_worker(store))) == 1

    async def test_what_waits_already_goes_first_and_only_so_many_come(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        first = await send(store)
        sent, claimed = await store.append_and_claim([a_draft() for _ in range(3)], a_claim(owner=worker, limit=2))
        assert [lease.id for lease in claimed.leases] == [first, sent[0].id]
        assert [lease.id for lease in await claim(store, worker)] == [each.id for each in sent[1:]]

    async def test_pauses_delays_and_slots_hold(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, max_concurrency=1)
        worker = await a_worker(store)
        await store.pause("inbox")
        assert (await store.append_and_claim([a_draft()], a_claim(owner=worker)))[1].leases == []
        await store.resume("inbox")
        await end(store, worker, await claim_one(store, worker))
        assert (await store.append_and_claim([a_draft(delay_ms=5_000)], a_claim(owner=worker)))[1].leases == []
        await clock.advance(5)
        lease = await claim_one(store, worker)
        assert (await store.append_and_claim([a_draft()], a_claim(owner=worker)))[1].leases == []
        await end(store, worker, lease)
        _, claimed = await store.append_and_claim([a_draft()], a_claim(owner=worker, limit=1))
        assert (len(claimed.leases), claimed.calls) == (1, 1)

    async def test_keys_turns_and_rates_hold(self, store: Store) -> None:
        worker = await a_worker(store)
        await open_inbox(store, ordered=True)
        drafts = [a_draft(key="k"), a_draft(key="k"), a_draft(key="l")]
        _, claimed = await store.append_and_claim(drafts, a_claim(owner=worker))
        assert [lease.key for lease in claimed.leases] == ["k", "l"]
        await settle(store, worker, *map(an_ack, claimed.leases))
        await settle(store, worker, an_ack(await claim_one(store, worker)))
        await store.put_consumer("inbox", a_consumer(fair=True))
        _, claimed = await store.append_and_claim([a_draft(key=key) for key in "aab"], a_claim(owner=worker, limit=2))
        assert [lease.key for lease in claimed.leases] == ["a", "b"]
        await settle(store, worker, *map(an_ack, claimed.leases))
        await store.put_consumer("inbox", a_consumer(rate=Rate(1, MINUTE_MS)))
        counts = [len((await store.append_and_claim([a_draft()], a_claim(owner=worker)))[1].leases) for _ in range(2)]
        assert counts == [1, 0]

    async def test_dedupe_keys_limits_and_modes_hold(self, store: Store, clock: ManualClock) -> None:
        await store.create_queue("inbox", a_queue(max_backlog_messages=1))
        await open_inbox(store, dispatch=Dispatch.CRON)
        worker = await a_worker(store)
        await clock.advance(1)
        [first], claimed = await store.append_and_claim([a_draft(dedupe="d")], a_claim(owner=worker))
        assert claimed.leases == []
        [second], _ = await store.append_and_claim([a_draft(dedupe="d")], a_claim(owner=worker))
        assert (second.id, second.deduped) == (first.id, True)
        with pytest.raises(QueueFullError):
            await store.append_and_claim([a_draft()], a_claim(owner=worker))
        await to_the_minute(clock)
        assert [lease.id for lease in await claim(store, worker)] == [first.id]


@pytest.mark.anyio
class TestChangesOfDispatch:
    async def test_what_waits_keeps_its_place_through_all_modes(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        sent = await send_many(store, 8)
        gone: list[bytes] = []
        for mode in [*Dispatch, *reversed(Dispatch)]:
            await store.put_consumer("inbox", a_consumer(dispatch=mode))
            await to_the_minute(clock)
            [lease] = await claim(store, worker, limit=1)
            gone.append(lease.id)
            await end(store, worker, lease)
        assert gone == sent
        assert (await store.metrics("inbox")).backlog_messages == 0

    async def test_going_back_lets_all_go_at_once(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON)
        worker = await a_worker(store)
        await send_many(store, 5)
        await to_the_minute(clock)
        await claim_one(store, worker)
        await store.put_consumer("inbox", a_consumer())
        assert len(await claim(store, worker)) == 4

    async def test_a_deleted_queue_leaves_no_tick_behind(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, dispatch=Dispatch.CRON)
        worker = await a_worker(store)
        await send(store)
        await to_the_minute(clock)
        await claim_one(store, worker)
        await store.delete_queue("inbox")
        await open_inbox(store, dispatch=Dispatch.CRON)
        await send(store)
        assert len(await claim(store, worker)) == 1
