"""T1: what a send promises, and what refuses it."""

from __future__ import annotations

import pytest

from conveyor.model.errors import QueueFullError, QueueNotFoundError
from conveyor.model.message import ContentType
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
from conveyor.testing.factories import a_draft, a_reject, an_ack, an_id


@pytest.mark.anyio
class TestSending:
    async def test_a_message_is_delivered_as_it_was_sent(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        draft = a_draft(
            body=bytes(range(256)), content_type=ContentType.BYTES, key="k", headers=b'{"job":"resize"}', priority=7
        )
        await store.append([draft])
        lease = await claim_one(store, await a_worker(store))
        assert (lease.id, lease.queue, lease.body) == (draft.id, "inbox", draft.body)
        assert (lease.content_type, lease.key, lease.headers) == (ContentType.BYTES, "k", draft.headers)
        assert (lease.sent_at, lease.claim, lease.releases) == (clock.now_ms(), 1, 0)
        assert not lease.crash_suspect

    @pytest.mark.parametrize("kind", list(ContentType))
    async def test_every_content_type_comes_back(self, store: Store, kind: ContentType) -> None:
        await open_queue(store)
        await send(store, content_type=kind)
        assert (await look_at_one(store)).content_type is kind

    @pytest.mark.parametrize("body", [b"", b"\x00", b"x" * 128_000])
    async def test_bodies_of_any_length_come_back(self, store: Store, body: bytes) -> None:
        await open_queue(store)
        await send(store, body=body)
        assert (await look_at_one(store)).body == body

    async def test_a_sent_message_can_be_seen_without_a_claim(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        id = await send(store, priority=3, key="k", headers=b"{}")
        seen = await look_at_one(store)
        assert (seen.id, seen.priority, seen.key, seen.headers) == (id, 3, "k", b"{}")
        assert (seen.sent_at, seen.ready_at) == (clock.now_ms(), clock.now_ms())
        assert (seen.attempts, seen.leased, seen.dead) == (0, False, None)

    async def test_the_answer_names_the_ids_in_the_order_of_the_drafts(self, store: Store) -> None:
        await open_queue(store)
        drafts = [a_draft() for _ in range(5)]
        sent = await store.append(drafts)
        assert [s.id for s in sent] == [d.id for d in drafts]
        assert not any(s.deduped for s in sent)

    async def test_a_batch_keeps_its_order(self, store: Store) -> None:
        await open_queue(store)
        ids = await send_many(store, 20)
        assert ids_of(await claim(store, await a_worker(store), limit=20)) == ids

    async def test_one_batch_may_go_to_several_queues(self, store: Store) -> None:
        await open_queue(store, "a")
        await open_queue(store, "b")
        first, second = a_draft(queue="a"), a_draft(queue="b")
        await store.append([first, second])
        assert (await ids_in(store, "a"), await ids_in(store, "b")) == ([first.id], [second.id])

    async def test_sending_nothing_does_nothing(self, store: Store) -> None:
        assert await store.append([]) == []

    async def test_a_later_message_has_a_higher_seq(self, store: Store) -> None:
        await open_queue(store)
        for _ in range(3):
            await send(store)
        seqs = [message.seq for message in await look(store)]
        assert seqs == sorted(set(seqs)) and seqs[0] > 0

    async def test_the_queues_own_delay_holds_where_the_message_names_none(
        self, store: Store, clock: ManualClock
    ) -> None:
        await open_queue(store, delivery_delay_ms=5_000)
        await send(store)
        await send(store, delay_ms=0)
        await send(store, delay_ms=9_000)
        waits = [message.ready_at - clock.now_ms() for message in await look(store)]
        assert waits == [5_000, 0, 9_000]

    async def test_a_missing_queue_refuses_the_whole_batch(self, store: Store) -> None:
        await open_queue(store)
        with pytest.raises(QueueNotFoundError):
            await store.append([a_draft(), a_draft(queue="nowhere")])
        assert await look(store) == []

    async def test_a_full_queue_refuses_the_whole_batch(self, store: Store) -> None:
        await open_queue(store, max_backlog_messages=2)
        await open_queue(store, "other")
        await send(store)
        with pytest.raises(QueueFullError):
            await store.append([a_draft(queue="other"), a_draft(), a_draft()])
        assert len(await look(store)) == 1 and await look(store, "other") == []
        await send(store)

    async def test_bytes_fill_a_queue_too(self, store: Store) -> None:
        await open_queue(store, max_backlog_bytes=10)
        await send(store, body=b"123456")
        with pytest.raises(QueueFullError):
            await send(store, body=b"12345")
        await send(store, body=b"1234")

    async def test_delayed_and_leased_messages_take_room_until_they_are_done(self, store: Store) -> None:
        await open_queue(store, max_backlog_messages=2)
        worker = await a_worker(store)
        await send(store)
        await send(store, delay_ms=60_000)
        lease = await claim_one(store, worker)
        with pytest.raises(QueueFullError):
            await send(store)
        await settle(store, worker, an_ack(lease))
        await send(store)

    async def test_dead_letters_are_let_into_a_full_queue(self, store: Store) -> None:
        await open_queue(store, DEAD, max_backlog_messages=1)
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store, queue=DEAD)
        await send(store)
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        assert len(await look(store, DEAD)) == 2


@pytest.mark.anyio
class TestDedupe:
    async def test_a_live_key_answers_with_the_first_message(self, store: Store) -> None:
        await open_queue(store)
        first = await send(store, dedupe="order-1")
        (second,) = await store.append([a_draft(dedupe="order-1")])
        assert (second.id, second.deduped) == (first, True)
        assert await ids_in(store) == [first]

    async def test_a_key_repeated_within_one_batch_counts_once(self, store: Store) -> None:
        await open_queue(store)
        drafts = [a_draft(dedupe="a"), a_draft(dedupe="b"), a_draft(dedupe="a")]
        sent = await store.append(drafts)
        assert [s.id for s in sent] == [drafts[0].id, drafts[1].id, drafts[0].id]
        assert [s.deduped for s in sent] == [False, False, True]
        assert await ids_in(store) == [drafts[0].id, drafts[1].id]

    async def test_a_key_belongs_to_its_queue(self, store: Store) -> None:
        await open_queue(store, "a")
        await open_queue(store, "b")
        await send(store, queue="a", dedupe="k")
        await send(store, queue="b", dedupe="k")
        assert len(await look(store, "b")) == 1

    async def test_without_a_window_a_key_is_free_once_its_message_is_done(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        first = await send(store, dedupe="k")
        lease = await claim_one(store, worker)
        assert await send(store, dedupe="k") == first
        await settle(store, worker, an_ack(lease))
        assert await send(store, dedupe="k") != first

    async def test_a_window_holds_the_key_of_a_message_that_is_done(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store, dedupe_window_ms=10_000)
        worker = await a_worker(store)
        first = await send(store, dedupe="k")
        await settle(store, worker, an_ack(await claim_one(store, worker)))
        await clock.advance(9.999)
        await store.sweep()
        assert await send(store, dedupe="k") == first
        await clock.advance(0.001)
        assert await send(store, dedupe="k") != first

    async def test_a_waiting_message_holds_its_key_beyond_the_window(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store, dedupe_window_ms=10_000)
        first = await send(store, dedupe="k", delay_ms=60_000)
        await clock.advance(30)
        await store.sweep()
        assert await send(store, dedupe="k") == first

    async def test_a_dead_letter_has_left_its_key_behind(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        first = await send(store, dedupe="k")
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        assert await send(store, dedupe="k") != first

    async def test_a_redriven_message_does_not_take_its_key_back(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        first = await send(store, dedupe="k")
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        assert await store.redrive(DEAD) == 1
        assert await send(store, dedupe="k") != first

    async def test_a_purge_frees_keys_within_their_window(self, store: Store) -> None:
        await open_queue(store, dedupe_window_ms=60_000)
        worker = await a_worker(store)
        done = await send(store, dedupe="done")
        await settle(store, worker, an_ack(await claim_one(store, worker)))
        waiting = await send(store, dedupe="waiting")
        await store.purge("inbox")
        assert await send(store, dedupe="done") != done
        assert await send(store, dedupe="waiting") != waiting

    async def test_a_repeated_key_needs_no_room(self, store: Store) -> None:
        await open_queue(store, max_backlog_messages=1)
        first = await send(store, dedupe="k")
        again = await store.append([a_draft(dedupe="k"), a_draft(dedupe="k")])
        assert [s.id for s in again] == [first, first]

    async def test_a_refused_batch_takes_no_keys(self, store: Store) -> None:
        await open_queue(store, max_backlog_messages=1, dedupe_window_ms=60_000)
        with pytest.raises(QueueFullError):
            await store.append([a_draft(dedupe="k"), a_draft()])
        id = an_id()
        assert await send(store, id=id, dedupe="k") == id
