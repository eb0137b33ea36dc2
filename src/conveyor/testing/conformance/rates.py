"""Rates of a queue and of its keys, and keys that rest."""

from __future__ import annotations

import pytest

from conveyor.model.errors import InvalidMessageError
from conveyor.model.rate import Rate
from conveyor.store.protocol import Store
from conveyor.store.records import Ending
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    ask,
    claim,
    claim_one,
    ids_of,
    look,
    open_inbox,
    pull,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_consumer, a_draft, a_reject, a_release, a_retry, an_ack, an_ending, an_owner

MINUTE = 60_000
SLACK = MINUTE // 50
"""What a window may remember too long."""


def per_minute(count: int) -> Rate:
    return Rate(count, MINUTE)


@pytest.mark.anyio
class TestRates:
    async def test_no_more_are_leased_within_a_period_by_all_together(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, rate=per_minute(3))
        first, second = await a_worker(store), await a_worker(store)
        ids = await send_many(store, 9)
        assert ids_of(await claim(store, first, limit=2)) == ids[:2]
        one, two = await ask(store, second), await ask(store, first)
        assert ids_of(one.leases) == ids[2:3]
        assert two.leases == []
        for answer in (one, two):
            assert answer.opens_at is not None
            assert MINUTE <= answer.opens_at - clock.now_ms() <= MINUTE + SLACK

    async def test_it_opens_when_it_said(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, rate=per_minute(3))
        ids = await send_many(store, 9)
        answer = await ask(store, await a_worker(store))
        assert answer.opens_at is not None
        await clock.advance((answer.opens_at - clock.now_ms() - 1) / 1000)
        worker = await a_worker(store)
        assert await claim(store, worker) == []
        await clock.advance(0.001)
        assert ids_of(await claim(store, worker)) == ids[3:6]

    async def test_the_window_slides(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, rate=per_minute(4))
        ids = await send_many(store, 9)
        await claim(store, await a_worker(store), limit=2)
        await clock.advance(40)
        assert ids_of(await claim(store, await a_worker(store))) == ids[2:4]
        await clock.advance(25)
        assert ids_of(await claim(store, await a_worker(store))) == ids[4:6]
        await clock.advance(30)
        assert await claim(store, await a_worker(store)) == []

    async def test_a_message_takes_as_much_as_it_costs(self, store: Store) -> None:
        await open_inbox(store, rate=per_minute(6))
        dear, cheap = await send(store, cost=5), await send(store)
        await send(store)
        assert ids_of(await claim(store, await a_worker(store))) == [dear, cheap]

    async def test_a_dear_one_is_not_overtaken(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, rate=per_minute(6))
        worker = await a_worker(store)
        first = await send(store, cost=2)
        dear, cheap = await send(store, cost=5), await send(store)
        answer = await ask(store, worker)
        assert ids_of(answer.leases) == [first]
        assert answer.opens_at is not None
        await clock.advance((answer.opens_at - clock.now_ms()) / 1000)
        assert ids_of(await claim(store, await a_worker(store))) == [dear, cheap]

    async def test_what_can_never_go_is_refused_at_the_door(self, store: Store) -> None:
        await open_inbox(store, rate=per_minute(5), key_rate=per_minute(3))
        with pytest.raises(InvalidMessageError):
            await store.append([a_draft(), a_draft(cost=6)])
        with pytest.raises(InvalidMessageError):
            await store.append([a_draft(cost=4)])
        assert await look(store) == []

    async def test_what_came_before_such_a_rate_goes_alone(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        ids = [await send(store), await send(store, cost=9), await send(store)]
        await store.put_consumer("inbox", a_consumer(rate=per_minute(5)))
        for id in ids:
            assert ids_of(await claim(store, await a_worker(store))) == [id]
            await clock.advance(62)

    async def test_whoever_pulls_is_counted_too(self, store: Store) -> None:
        await open_inbox(store, rate=per_minute(3))
        await send_many(store, 9)
        assert len(await pull(store, limit=2)) == 2
        assert len(await claim(store, await a_worker(store))) == 1
        assert await pull(store) == []

    async def test_another_attempt_counts_again(self, store: Store) -> None:
        await open_inbox(store, rate=per_minute(2))
        worker = await a_worker(store)
        await send(store)
        await settle(store, worker, a_retry(await claim_one(store, worker)))
        await settle(store, worker, a_release(await claim_one(store, worker)))
        assert await claim(store, worker) == []

    async def test_suspects_count_too(self, store: Store) -> None:
        await open_inbox(store, rate=per_minute(3))
        first, second = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        seqs = frozenset(lease.seq for lease in await claim(store, first))
        await store.reap_owner(first, an_ending(Ending.CRASHED, started=seqs))
        assert len(await claim(store, second, suspects=True)) == 1

    async def test_slots_and_rates_hold_together(self, store: Store) -> None:
        await open_inbox(store, rate=per_minute(3), max_concurrency=2)
        worker = await a_worker(store)
        await send_many(store, 9)
        one = await ask(store, worker)
        assert (len(one.leases), one.calls) == (2, 2)
        await store.settle(worker, [an_ack(lease) for lease in one.leases], ended={"inbox": 2})
        two = await ask(store, worker)
        assert (len(two.leases), two.calls) == (1, 1)

    async def test_a_batch_that_is_not_open_takes_nothing_of_the_rate(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, rate=per_minute(3))
        worker = await a_worker(store)
        await send_many(store, 5)
        batch = {"batch_size": 4, "limit": 8, "batch_timeout_ms": 5_000}
        assert await claim(store, worker, **batch) == []
        await clock.advance(5)
        assert len(await claim(store, worker, **batch)) == 3

    async def test_a_rate_may_begin_change_and_end_while_messages_wait(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 9)
        await store.put_consumer("inbox", a_consumer(rate=per_minute(2)))
        assert len(await claim(store, worker)) == 2
        await store.put_consumer("inbox", a_consumer(rate=per_minute(5)))
        assert len(await claim(store, worker)) == 3
        await store.put_consumer("inbox", a_consumer())
        assert len(await claim(store, worker)) == 4

    async def test_a_purge_leaves_what_was_used(self, store: Store) -> None:
        await open_inbox(store, rate=per_minute(2))
        worker = await a_worker(store)
        await send_many(store, 3)
        await claim(store, worker)
        await store.purge("inbox")
        await send_many(store, 3)
        assert await claim(store, worker) == []

    async def test_a_queue_that_is_made_anew_has_used_nothing(self, store: Store) -> None:
        await open_inbox(store, rate=per_minute(2))
        worker = await a_worker(store)
        await send_many(store, 2)
        await claim(store, worker)
        await store.delete_queue("inbox")
        await open_inbox(store, rate=per_minute(2))
        await send_many(store, 3)
        assert len(await claim(store, worker)) == 2

    async def test_redriven_messages_and_their_cost_count(self, store: Store) -> None:
        await open_inbox(store, rate=per_minute(8))
        worker = await a_worker(store)
        ids = [await send(store, cost=3), await send(store, cost=3)]
        await settle(store, worker, *[a_reject(lease) for lease in await claim(store, worker, limit=1)])
        await store.redrive(DEAD)
        assert ids_of(await claim(store, worker)) == ids[:1]


@pytest.mark.anyio
class TestKeyRates:
    async def test_each_key_has_a_rate_of_its_own(self, store: Store) -> None:
        await open_inbox(store, key_rate=per_minute(2))
        for key in ("a", "b", None):
            await send_many(store, 3, key=key)
        first, second = await a_worker(store), await a_worker(store)
        leases = await claim(store, first, limit=2) + await claim(store, second, limit=20)
        assert sorted(str(lease.key) for lease in leases) == ["None"] * 3 + ["a", "a", "b", "b"]

    async def test_a_key_comes_back_with_as_many_as_it_may_send(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, key_rate=per_minute(3))
        ids = await send_many(store, 30, key="k")
        free = await send(store, key="other")
        answer = await ask(store, await a_worker(store))
        assert ids_of(answer.leases) == [*ids[:3], free]
        assert answer.opens_at is not None
        await clock.advance((answer.opens_at - clock.now_ms() - 1) / 1000)
        assert await claim(store, await a_worker(store)) == []
        await clock.advance(0.001)
        assert ids_of(await claim(store, await a_worker(store))) == ids[3:6]
        assert await claim(store, await a_worker(store)) == []
        await clock.advance(62)
        assert ids_of(await claim(store, await a_worker(store), limit=1)) == ids[6:7]
        assert ids_of(await claim(store, await a_worker(store))) == ids[7:9]

    async def test_it_comes_back_though_its_window_never_fills_again(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, key_rate=per_minute(3))
        ids = await send_many(store, 6, key="busy")
        came = ids_of(await claim(store, await a_worker(store), limit=1))
        await clock.advance(20)
        came += ids_of(await claim(store, await a_worker(store), limit=1))
        await clock.advance(20)
        came += ids_of(await claim(store, await a_worker(store)))  # and the others are put aside
        await clock.advance(22)
        urgent = await send(store, key="calm", priority=9)
        worker = await a_worker(store)
        assert ids_of(await claim(store, worker, limit=1)) == [urgent], "another went first when there was room for one"
        await clock.advance(20)
        worker = await a_worker(store)
        came += ids_of(await claim(store, worker))
        answer = await ask(store, worker)
        came += ids_of(answer.leases)
        assert (came, answer.opens_at is not None) == (ids[:5], True)
        await clock.advance(((answer.opens_at or 0) - clock.now_ms()) / 1000)
        assert ids_of(await claim(store, await a_worker(store))) == ids[5:]

    async def test_what_comes_later_waits_behind_its_key(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, key_rate=per_minute(1))
        worker = await a_worker(store)
        ids = await send_many(store, 2, key="k")
        assert ids_of(await claim(store, worker)) == ids[:1]
        late = await send(store, key="k")
        assert await claim(store, worker) == []
        await clock.advance(62)
        assert ids_of(await claim(store, await a_worker(store))) == ids[1:]
        await clock.advance(62)
        assert ids_of(await claim(store, await a_worker(store))) == [late]

    async def test_costs_count_per_key(self, store: Store) -> None:
        await open_inbox(store, key_rate=per_minute(4))
        dear = await send(store, key="a", cost=3)
        await send(store, key="a", cost=2)
        await send(store, key="a")
        other = await send(store, key="b", cost=4)
        assert ids_of(await claim(store, await a_worker(store))) == [dear, other]

    async def test_it_holds_beside_the_rate_of_the_queue(self, store: Store) -> None:
        await open_inbox(store, rate=per_minute(3), key_rate=per_minute(2))
        a, b = await send_many(store, 3, key="a"), await send_many(store, 3, key="b")
        assert ids_of(await claim(store, await a_worker(store))) == [*a[:2], b[0]]

    async def test_it_holds_beside_the_order_of_a_key(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ordered=True, key_rate=per_minute(2))
        worker = await a_worker(store)
        ids = await send_many(store, 4, key="k")
        for id in ids[:2]:
            (lease,) = await claim(store, worker)
            assert lease.id == id
            await settle(store, worker, an_ack(lease))
        assert await claim(store, worker) == []
        await clock.advance(62)
        worker = await a_worker(store)
        assert ids_of(await claim(store, worker)) == ids[2:3]

    async def test_it_holds_beside_the_concurrency_of_a_key(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, key_concurrency=1, key_rate=per_minute(2))
        worker = await a_worker(store)
        ids = await send_many(store, 5, key="k")
        for id in ids[:2]:
            (lease,) = await claim(store, worker)
            assert lease.id == id
            await settle(store, worker, an_ack(lease))
        assert await claim(store, worker) == []
        await clock.advance(62)
        worker = await a_worker(store)
        assert ids_of(await claim(store, worker)) == ids[2:3]
        assert await claim(store, worker) == []

    async def test_it_may_begin_change_and_end_while_messages_wait(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 9, key="k")
        await store.put_consumer("inbox", a_consumer(key_rate=per_minute(2)))
        assert len(await claim(store, worker)) == 2
        await store.put_consumer("inbox", a_consumer(key_rate=per_minute(5)))
        assert len(await claim(store, worker)) == 3
        await store.put_consumer("inbox", a_consumer())
        assert len(await claim(store, worker)) == 4

    async def test_a_purge_takes_what_waits_and_leaves_what_was_used(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, key_rate=per_minute(1))
        await send_many(store, 3, key="k")
        assert len(await claim(store, await a_worker(store))) == 1
        assert await store.purge("inbox") == 3
        late = await send(store, key="k")
        assert await claim(store, await a_worker(store)) == []
        await clock.advance(62)
        await store.sweep()
        assert ids_of(await claim(store, await a_worker(store))) == [late]

    async def test_used_up_windows_are_swept_once_they_are_over(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, key_rate=per_minute(2))
        worker = await a_worker(store)
        for key in ("a", "b", "c"):
            await send(store, key=key)
        await settle(store, worker, *map(an_ack, await claim(store, worker)))
        assert (await store.sweep()).rates == 0
        await clock.advance(130)
        assert (await store.sweep()).rates in (0, 3)  # a store that keeps none has none to sweep
        assert (await store.sweep()).rates == 0


@pytest.mark.anyio
class TestRestingKeys:
    async def test_a_key_rests_and_the_others_do_not(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, key_concurrency=9)
        worker = await a_worker(store)
        ids = await send_many(store, 3, key="k")
        (lease,) = await claim(store, worker, limit=1)
        await settle(store, worker, a_release(lease, delay_ms=10_000, rests_key=True))
        late, other = await send(store, key="k"), await send(store, key="other")
        answer = await ask(store, worker)
        assert ids_of(answer.leases) == [other]
        assert answer.opens_at == clock.now_ms() + 10_000
        await clock.advance(10)
        (first, *rest) = await claim(store, worker)
        assert [first.id, *ids_of(rest)] == [ids[1], ids[2], late, ids[0]]
        assert (rest[-1].attempts, rest[-1].claim) == (1, 2)

    async def test_the_longest_rest_counts(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, key_concurrency=9)
        worker = await a_worker(store)
        await send_many(store, 2, key="k")
        one, two = await claim(store, worker)
        await settle(store, worker, a_release(one, delay_ms=9_000, rests_key=True))
        await settle(store, worker, a_release(two, delay_ms=1_000, rests_key=True))
        await clock.advance(8.999)
        assert await claim(store, worker) == []
        await clock.advance(0.001)
        assert len(await claim(store, worker)) == 2

    async def test_an_ordered_key_rests_too(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        ids = await send_many(store, 2, key="k")
        await settle(store, worker, a_release(await claim_one(store, worker), delay_ms=9_000, rests_key=True))
        assert await claim(store, worker) == []
        await clock.advance(9)
        assert ids_of(await claim(store, worker)) == ids[:1]

    @pytest.mark.parametrize(("key", "gate"), [("k", {}), (None, {"key_concurrency": 9})])
    async def test_where_there_is_no_key_to_rest_only_the_message_does(
        self, store: Store, clock: ManualClock, key: str | None, gate: dict[str, int]
    ) -> None:
        await open_inbox(store, **gate)
        worker = await store.register_owner(an_owner())
        ids = await send_many(store, 2, key=key)
        await settle(store, worker, a_release(await claim_one(store, worker), delay_ms=9_000, rests_key=True))
        assert ids_of(await claim(store, worker)) == ids[1:]
        await clock.advance(9)
        assert ids_of(await claim(store, worker)) == ids[:1]
