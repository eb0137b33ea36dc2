"""T9 for single messages: whoever looked at them may throw them away, whatever their state."""

from __future__ import annotations

import pytest

from conveyor.model.errors import QueueNotFoundError
from conveyor.store.protocol import Store
from conveyor.testing.conformance.steps import (
    a_worker,
    claim_one,
    ids_in,
    look,
    open_inbox,
    open_queue,
    pull_one,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import an_ack


@pytest.mark.anyio
class TestDiscards:
    async def test_it_is_gone_and_the_others_stay(self, store: Store) -> None:
        await open_inbox(store)
        ids = await send_many(store, 3)
        second = (await look(store))[1]
        assert await store.discard("inbox", [second.seq]) == [second.seq]
        assert await ids_in(store) == [ids[0], ids[2]]
        metrics = await store.metrics("inbox")
        assert metrics.backlog_messages == 2
        assert metrics.backlog_bytes == sum(len(each.body) for each in await look(store))

    async def test_what_is_not_there_is_not_named(self, store: Store) -> None:
        await open_inbox(store)
        await open_queue(store, "other")
        await send(store)
        [message] = await look(store)
        assert await store.discard("other", [message.seq]) == []
        assert await store.discard("inbox", [message.seq, message.seq + 1]) == [message.seq]
        assert await store.discard("inbox", [message.seq]) == []
        with pytest.raises(QueueNotFoundError):
            await store.discard("nowhere", [message.seq])

    async def test_a_leased_one_goes_too(self, store: Store) -> None:
        await open_inbox(store)
        await send(store)
        worker = await a_worker(store)
        lease = await claim_one(store, worker)
        assert await store.discard("inbox", [lease.seq]) == [lease.seq]
        assert await settle(store, worker, an_ack(lease)) == [], "an ack of what is gone is not lost"
        assert (await store.metrics("inbox")).backlog_messages == 0

    async def test_the_next_of_an_ordered_key_may_go(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        first, second = await send_many(store, 2, key="patient-7")
        lease = await pull_one(store)
        assert lease.id == first
        assert await store.discard("inbox", [lease.seq]) == [lease.seq]
        assert (await pull_one(store)).id == second

    async def test_its_dedupe_key_is_free(self, store: Store) -> None:
        await open_inbox(store)
        await send(store, dedupe="once")
        [message] = await look(store)
        await store.discard("inbox", [message.seq])
        await send(store, dedupe="once")
        assert len(await look(store)) == 1
