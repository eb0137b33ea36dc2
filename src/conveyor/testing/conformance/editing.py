"""Messages found by their ids, and changed while nobody has them."""

from __future__ import annotations

import pytest

from conveyor.model.errors import QueueNotFoundError, VersionConflictError
from conveyor.model.ids import MessageId
from conveyor.model.message import ContentType, Peeked
from conveyor.store.protocol import Store
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    claim_one,
    look,
    look_at_one,
    open_inbox,
    open_queue,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_reject, a_release


async def edit(store: Store, was: Peeked, body: bytes, headers: bytes | None = None) -> Peeked:
    return await store.edit_message(was, body=body, content_type=ContentType.TEXT, headers=headers)


@pytest.mark.anyio
class TestEdits:
    async def test_a_message_is_found_by_its_id_in_its_queue_alone(self, store: Store) -> None:
        await open_inbox(store)
        await open_queue(store, "other")
        ids = await send_many(store, 3)
        assert await store.find_message("inbox", ids[1]) == (await look(store))[1]
        assert await store.find_message("other", ids[1]) is None
        assert await store.find_message("inbox", MessageId(bytes(16))) is None
        with pytest.raises(QueueNotFoundError):
            await store.find_message("nowhere", ids[1])

    async def test_a_leased_one_is_found_too(self, store: Store) -> None:
        await open_inbox(store)
        id = await send(store)
        await claim_one(store, await a_worker(store))
        found = await store.find_message("inbox", id)
        assert found is not None and found.leased

    async def test_an_edit_changes_what_it_says_and_nothing_else(self, store: Store) -> None:
        await open_inbox(store)
        await send_many(store, 2)
        first, second = await look(store)
        edited = await edit(store, first, b"longer than before", b'{"a":1}')
        assert edited == await store.find_message("inbox", first.id)
        assert (edited.body, edited.content_type, edited.headers) == (
            b"longer than before", ContentType.TEXT, b'{"a":1}',
        )  # fmt: skip
        assert (edited.seq, edited.ready_at, edited.attempts) == (first.seq, first.ready_at, first.attempts)
        assert (await look(store))[1] == second

    async def test_the_backlog_counts_the_new_body(self, store: Store) -> None:
        await open_inbox(store)
        await send(store, body=b"12345")
        longer = await edit(store, await look_at_one(store), b"123456789")
        assert (await store.metrics("inbox")).backlog_bytes == 9
        await edit(store, longer, b"1")
        metrics = await store.metrics("inbox")
        assert (metrics.backlog_messages, metrics.backlog_bytes) == (1, 1)

    async def test_what_was_changed_meanwhile_stays(self, store: Store) -> None:
        await open_inbox(store)
        await send(store)
        was = await look_at_one(store)
        now = await edit(store, was, b"mine")
        with pytest.raises(VersionConflictError):
            await edit(store, was, b"theirs")
        assert await look_at_one(store) == now

    async def test_what_somebody_has_is_not_edited(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        was = await look_at_one(store)
        lease = await claim_one(store, worker)
        leased = await look_at_one(store)
        for seen in (was, leased):
            with pytest.raises(VersionConflictError):
                await edit(store, seen, b"new")
        await settle(store, worker, a_release(lease))
        await edit(store, await look_at_one(store), b"new")

    async def test_what_is_gone_is_not_edited(self, store: Store) -> None:
        await open_inbox(store)
        await send(store)
        was = await look_at_one(store)
        await store.purge("inbox")
        with pytest.raises(VersionConflictError):
            await edit(store, was, b"new")
        assert (await store.metrics("inbox")).backlog_bytes == 0

    async def test_a_dead_letter_goes_back_as_it_was_edited(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        id = await send(store, body=b"bad", key="k")
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        letter = await store.find_message(DEAD, id)
        assert letter is not None
        edited = await edit(store, letter, b"good")
        assert edited.dead == letter.dead
        assert await store.redrive(DEAD, seqs=[edited.seq]) == 1
        lease = await claim_one(store, worker)
        assert (lease.id, lease.body, lease.content_type) == (id, b"good", ContentType.TEXT)
