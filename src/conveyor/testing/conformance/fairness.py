"""Keys that take turns."""

from __future__ import annotations

from collections import Counter

import pytest

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
    open_queue,
    pull,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_consumer, a_reject, a_release, a_retry, an_ack, an_ending


async def keys_in_turn(store: Store, worker: int, count: int, **parts: int) -> str:
    """The keys of the next `count` messages, claimed one after another."""
    leases = [await claim_one(store, worker, **parts) for _ in range(count)]
    return "".join(lease.key or "-" for lease in leases)


@pytest.mark.anyio
class TestFairness:
    async def test_keys_take_turns_whatever_waits(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        for key, count in (("a", 9), ("b", 2), ("c", 4)):
            await send_many(store, count, key=key)
        assert await keys_in_turn(store, await a_worker(store), 15) == "abcabcacacaaaaa"

    async def test_a_claim_of_many_takes_them_turn_by_turn(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        for key, count in (("a", 9), ("b", 2), ("c", 4)):
            await send_many(store, count, key=key)
        worker = await a_worker(store)
        order = [lease.key for limit in (4, 7, 9) for lease in await claim(store, worker, limit=limit)]
        assert "".join(map(str, order)) == "abcabcacacaaaaa"

    async def test_a_key_that_has_no_more_to_give_leaves_the_line(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        for key, count in (("a", 2), ("b", 1)):
            await send_many(store, count, key=key)
        worker = await a_worker(store)
        assert [lease.key for lease in await claim(store, worker, limit=4)] == ["a", "b", "a"]
        for key in ("a", "b"):
            await send_many(store, 1, key=key)
        assert [lease.key for lease in await claim(store, worker, limit=1)] == ["a"]

    async def test_who_comes_late_waits_for_one_round(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        worker = await a_worker(store)
        for key in ("a", "b"):
            await send_many(store, 300, key=key)
        await keys_in_turn(store, worker, 5)
        await send(store, key="late")
        assert "late" in await keys_in_turn(store, worker, 3)

    async def test_who_comes_back_again_and_again_takes_nobodys_turn(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        worker = await a_worker(store)
        await send_many(store, 9, key="b")
        order = ""
        for _ in range(6):
            await send(store, key="a")
            order += await keys_in_turn(store, worker, 1)
        assert order == "bababa"

    async def test_weights_are_messages_in_a_turn(self, store: Store) -> None:
        await open_inbox(store, fair=True, key_weights={"gold": 3})
        for key in ("gold", "tin"):
            await send_many(store, 20, key=key)
        worker = await a_worker(store)
        order = [lease.key for limit in (1, 1, 1, 1, 2, 6, 8) for lease in await claim(store, worker, limit=limit)]
        assert order == ["gold", "gold", "gold", "tin"] * 5

    async def test_two_workers_share_one_line(self, store: Store) -> None:
        await open_inbox(store, fair=True, key_weights={"g": 3})
        workers = [await a_worker(store), await a_worker(store)]
        for key in "gt":
            await send_many(store, 20, key=key)
        order = [await keys_in_turn(store, workers[number % 2], 1) for number in range(16)]
        assert "".join(order) == "gggt" * 4

    async def test_messages_without_a_key_take_turns_as_one(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        await send_many(store, 4)
        await send_many(store, 4, key="a")
        assert await keys_in_turn(store, await a_worker(store), 8) == "-a-a-a-a"

    async def test_higher_priority_still_goes_first(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        await send_many(store, 2, key="a", priority=2)
        for key in ("a", "b"):
            await send_many(store, 2, key=key, priority=8)
        await send(store, key="c", priority=2)
        assert await keys_in_turn(store, await a_worker(store), 7) == "ababaca"

    async def test_a_key_has_its_messages_in_the_order_of_claims(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, fair=True)
        worker = await a_worker(store)
        ids = await send_many(store, 2, key="a")
        delayed = await send(store, key="a", delay_ms=5_000)
        assert ids_of(await claim(store, worker)) == ids
        await clock.advance(4.999)
        assert await claim(store, worker) == []
        await clock.advance(0.001)
        assert ids_of(await claim(store, worker)) == [delayed]

    async def test_delays_of_one_key_end_one_by_one(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, fair=True)
        worker = await a_worker(store)
        ids = [await send(store, key="a", delay_ms=delay) for delay in (1_000, 3_000, 2_000)]
        found = []
        for _ in range(3):
            answer = await ask(store, worker)
            assert answer.opens_at == clock.now_ms() + 1_000
            await clock.advance(1)
            found += ids_of(await claim(store, worker))
        assert found == [ids[0], ids[2], ids[1]]

    async def test_retried_and_released_messages_come_back(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, fair=True)
        worker = await a_worker(store)
        ids = await send_many(store, 2, key="a")
        await settle(store, worker, a_retry(await claim_one(store, worker), delay_ms=5_000))
        await settle(store, worker, a_release(await claim_one(store, worker)))
        assert ids_of(await claim(store, worker)) == ids[1:]
        await clock.advance(5)
        assert ids_of(await claim(store, worker)) == ids[:1]

    async def test_suspects_are_claimed_apart(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        first, second = await a_worker(store), await a_worker(store)
        await send_many(store, 3, key="a")
        leases = await claim(store, first, limit=2)
        await store.reap_owner(first, an_ending(Ending.CRASHED, started=frozenset(lease.seq for lease in leases)))
        answer = await ask(store, second)
        assert (len(answer.leases), answer.suspects) == (1, True)
        assert len(await claim(store, second, suspects=True)) == 2

    async def test_whoever_pulls_gets_turns_too(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        for key in ("a", "b"):
            await send_many(store, 3, key=key)
        assert [lease.key for lease in await pull(store, limit=4)] == ["a", "b", "a", "b"]

    async def test_batches_are_made_turn_by_turn(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        worker = await a_worker(store)
        for key in ("a", "b"):
            await send_many(store, 5, key=key)
        batch = {"batch_size": 4, "batch_timeout_ms": 5_000, "limit": 12}
        assert "".join(str(lease.key) for lease in await claim(store, worker, **batch)) == "abababab"
        await send_many(store, 2, key="b")
        assert "".join(str(lease.key) for lease in await claim(store, worker, **batch)) == "abbb"

    async def test_turns_and_the_concurrency_of_keys(self, store: Store) -> None:
        await open_inbox(store, fair=True, key_concurrency=1)
        worker = await a_worker(store)
        for key in ("a", "b"):
            await send_many(store, 3, key=key)
        a, b = await claim(store, worker)
        assert (a.key, b.key) == ("a", "b")
        assert await claim(store, worker) == []
        await settle(store, worker, an_ack(b))
        (again,) = await claim(store, worker)
        assert again.key == "b"
        await settle(store, worker, a_retry(again), an_ack(a))
        assert sorted(str(lease.key) for lease in await claim(store, worker)) == ["a", "b"]

    async def test_turns_and_the_order_of_keys(self, store: Store) -> None:
        await open_inbox(store, fair=True, ordered=True)
        worker = await a_worker(store)
        first = await send(store, key="a", priority=0)
        second = await send(store, key="a", priority=9)
        free = await send_many(store, 2)
        assert ids_of(await claim(store, worker)) == [*free, first]
        assert await claim(store, worker) == []
        await store.reap_owner(worker, an_ending(Ending.EXITED))
        worker = await a_worker(store)
        leases = await claim(store, worker)
        await settle(store, worker, *map(an_ack, leases))
        assert ids_of(await claim(store, worker)) == [second]

    async def test_turns_and_the_rate_of_keys(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, fair=True, key_rate=Rate(2, 60_000))
        worker = await a_worker(store)
        await send_many(store, 9, key="a")
        await send(store, key="b")
        answer = await ask(store, worker)
        assert [lease.key for lease in answer.leases] == ["a", "b", "a"]
        assert answer.opens_at is not None
        await clock.advance((answer.opens_at - clock.now_ms()) / 1000)
        assert len(await claim(store, await a_worker(store))) == 2

    async def test_turns_and_the_rate_of_the_queue(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, fair=True, rate=Rate(3, 60_000))
        for key in ("a", "b"):
            await send_many(store, 9, key=key)
        assert [lease.key for lease in await claim(store, await a_worker(store))] == ["a", "b", "a"]
        await clock.advance(62)
        assert [lease.key for lease in await claim(store, await a_worker(store))] == ["b", "a", "b"]

    async def test_a_key_that_rests_gives_its_turns_away(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, fair=True)
        worker = await a_worker(store)
        for key in ("a", "b"):
            await send_many(store, 3, key=key)
        await settle(store, worker, a_release(await claim_one(store, worker), delay_ms=9_000, rests_key=True))
        assert [lease.key for lease in await claim(store, worker)] == ["b", "b", "b"]
        await clock.advance(9)
        assert [lease.key for lease in await claim(store, worker)] == ["a", "a", "a"]

    async def test_a_look_for_suspects_wakes_no_key_that_rested(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, fair=True)
        worker = await a_worker(store)
        await send_many(store, 2, key="a")
        await settle(store, worker, a_release(await claim_one(store, worker), delay_ms=9_000, rests_key=True))
        assert await claim(store, worker) == []
        await clock.advance(9)
        assert await claim(store, worker, suspects=True) == []
        assert len(await claim(store, worker)) == 2

    async def test_it_may_begin_and_end_while_messages_wait(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        await send_many(store, 4, key="a")
        await send_many(store, 2, key="b")
        await claim(store, worker)
        await store.put_consumer("inbox", a_consumer(fair=True))
        assert await keys_in_turn(store, worker, 2) == "ab"
        await store.put_consumer("inbox", a_consumer())
        assert await keys_in_turn(store, worker, 2) == "aa"

    async def test_a_queue_without_a_consumer_may_get_a_fair_one(self, store: Store) -> None:
        await open_queue(store)
        await send_many(store, 4, key="a")
        await send_many(store, 2)
        await store.put_consumer("inbox", a_consumer(fair=True))
        assert await keys_in_turn(store, await a_worker(store), 6) == "a-a-aa"

    async def test_weights_may_change_while_messages_wait(self, store: Store) -> None:
        await open_inbox(store, fair=True, key_weights={"a": 9})
        worker = await a_worker(store)
        for key in ("a", "b"):
            await send_many(store, 9, key=key)
        assert await keys_in_turn(store, worker, 2) == "aa"
        await store.put_consumer("inbox", a_consumer(fair=True, key_weights={"b": 2}))
        assert await keys_in_turn(store, worker, 7) == "ababbab"  # a turn that has begun ends as it was

    async def test_a_purge_empties_the_line(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        worker = await a_worker(store)
        await send_many(store, 9, key="a")
        await keys_in_turn(store, worker, 2)
        await store.purge("inbox")
        await send_many(store, 2, key="b")
        assert [lease.key for lease in await claim(store, worker)] == ["b", "b"]
        while (await store.sweep()).purged_messages:
            pass

    async def test_dead_letters_may_go_to_and_come_from_fair_queues(self, store: Store) -> None:
        await open_inbox(store, fair=True)
        await store.put_consumer(DEAD, a_consumer(fair=True))
        worker = await a_worker(store)
        for key in ("a", "b"):
            await send_many(store, 2, key=key)
        await settle(store, worker, *map(a_reject, await claim(store, worker)))
        assert Counter(message.key for message in await look(store, DEAD)) == {"a": 2, "b": 2}
        assert await store.redrive(DEAD, limit=3) == 3
        assert len(await claim(store, worker)) == 3
        assert len(await claim(store, worker, queue=DEAD)) == 1

    async def test_an_expired_message_takes_no_turn(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, fair=True)
        old = await send(store, key="a", expires_in_ms=5_000)
        young = await send(store, key="a")
        await clock.advance(5)
        assert ids_of(await claim(store, await a_worker(store))) == [young]
        assert [message.id for message in await look(store, DEAD)] == [old]
