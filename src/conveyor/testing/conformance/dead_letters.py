"""T6, T10, T12: how messages die, where they go, and how they come back."""

from __future__ import annotations

import msgspec
import pytest

from conveyor.model.alert import DeadLetterAlert
from conveyor.model.duration import DAY_MS
from conveyor.model.errors import QueueNotFoundError
from conveyor.model.ids import MessageId
from conveyor.model.message import ERROR_CHARS_MAX, DeadLetter
from conveyor.model.redrive import read_redrives
from conveyor.store.protocol import Store
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    claim,
    claim_one,
    ids_in,
    look,
    look_at_one,
    open_inbox,
    open_queue,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_consumer, a_queue, a_reject, a_release, a_retry, an_ack


async def a_dead_letter(store: Store, worker: int, **parts: object) -> MessageId:
    """Send a message and reject it."""
    id = await send(store, **parts)
    await settle(store, worker, a_reject(await claim_one(store, worker)))
    return id


@pytest.mark.anyio
class TestDeadLetters:
    async def test_a_dead_letter_is_the_same_message_in_another_queue(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        id = await send(store, body=b'"film"', key="k", headers=b'{"a":1}', priority=8)
        before = await look_at_one(store)
        lease = await claim_one(store, worker)
        await clock.advance(7)
        await settle(store, worker, a_reject(lease, reason="bad", error="boom"))
        after = await look_at_one(store, DEAD)
        assert (after.id, after.seq, after.body, after.key) == (id, before.seq, before.body, "k")
        assert (after.headers, after.priority, after.sent_at) == (before.headers, 8, before.sent_at)
        assert (after.attempts, after.leased, after.ready_at) == (0, False, clock.now_ms())
        assert after.dead == DeadLetter(origin_queue="inbox", reason="bad", dead_at=clock.now_ms(), last_error="boom")

    async def test_it_is_in_one_place_only_and_counted_there(self, store: Store) -> None:
        await open_inbox(store)
        await a_dead_letter(store, await a_worker(store), body=b"12345")
        here, there = await store.metrics("inbox"), await store.metrics(DEAD)
        assert (here.backlog_messages, here.backlog_bytes, here.leased) == (0, 0, 0)
        assert (there.backlog_messages, there.backlog_bytes, there.leased) == (1, 5, 0)

    async def test_it_can_be_claimed_like_any_message(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        id = await a_dead_letter(store, worker)
        lease = await claim_one(store, worker, queue=DEAD)
        assert (lease.id, lease.queue, lease.attempts) == (id, DEAD, 1)
        await settle(store, worker, an_ack(lease))
        assert await look(store, DEAD) == []

    async def test_long_errors_are_cut(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        error = "e" * (ERROR_CHARS_MAX + 5)
        await settle(store, worker, a_reject(await claim_one(store, worker), error=error))
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and dead.last_error == error[:ERROR_CHARS_MAX]

    async def test_without_a_dead_letter_queue_it_is_deleted(self, store: Store) -> None:
        await open_inbox(store, dead_letter_queue=None)
        worker = await a_worker(store)
        await send(store)
        lease = await claim_one(store, worker)
        assert await settle(store, worker, a_reject(lease)) == [lease.seq]
        assert await look(store) == []

    async def test_dying_again_where_no_queue_follows_deletes_it(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await a_dead_letter(store, worker)
        lease = await claim_one(store, worker, queue=DEAD)
        assert await settle(store, worker, a_reject(lease)) == [lease.seq]
        assert await look(store, DEAD) == await look(store) == []

    async def test_dying_again_where_a_queue_follows_moves_it_on(self, store: Store) -> None:
        await open_inbox(store)
        await store.declare_consumer(DEAD, a_consumer(dead_letter_queue="graveyard"))
        worker = await a_worker(store)
        id = await a_dead_letter(store, worker)
        await settle(store, worker, a_reject(await claim_one(store, worker, queue=DEAD), reason="again"))
        seen = await look_at_one(store, "graveyard")
        assert seen.id == id
        assert seen.dead is not None and (seen.dead.origin_queue, seen.dead.reason) == (DEAD, "again")

    async def test_the_messages_own_expiry_ends_with_its_first_life(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await a_dead_letter(store, worker, expires_in_ms=1_000)
        await clock.advance(60)
        assert len(await claim(store, worker, queue=DEAD)) == 1

    async def test_a_dead_letter_queue_that_was_deleted_is_made_again(self, store: Store) -> None:
        await open_inbox(store)
        await store.delete_queue(DEAD)
        id = await a_dead_letter(store, await a_worker(store))
        assert await ids_in(store, DEAD) == [id]

    async def test_a_message_that_dies_after_a_purge_of_the_dead_is_kept(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        old = await send(store)
        await send_many(store, 2, queue=DEAD)
        assert await store.purge(DEAD) == 2
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        await store.sweep()
        assert await ids_in(store, DEAD) == [old]
        assert (await store.metrics(DEAD)).backlog_messages == 1


@pytest.mark.anyio
class TestAlerts:
    async def test_an_alert_tells_of_the_death(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, alert_queue="alerts", max_retries=1)
        worker = await a_worker(store)
        id = await send(store, headers=b'{"correlation_id":"c-9"}')
        await settle(store, worker, a_retry(await claim_one(store, worker)))
        await settle(store, worker, a_retry(await claim_one(store, worker), error="boom"))
        alert = await look_at_one(store, "alerts")
        assert alert.content_type == "json" and alert.id != id
        assert msgspec.json.decode(alert.body, type=DeadLetterAlert, strict=True).message_id == id.hex()
        assert msgspec.json.decode(alert.body) == {
            "event": "message.dead_lettered",
            "queue": "inbox",
            "dead_letter_queue": DEAD,
            "message_id": id.hex(),
            "reason": "retries",
            "error": "boom",
            "attempts": 2,
            "dead_at": clock.now_ms(),
            "headers": {"correlation_id": "c-9"},
        }

    async def test_an_expired_message_is_told_of_with_its_attempts(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, alert_queue="alerts")
        await store.update_queue("inbox", a_queue(retention_ms=60_000))
        worker = await a_worker(store)
        await send(store)
        await settle(store, worker, a_retry(await claim_one(store, worker)))
        await clock.advance(61)
        await store.sweep()
        alert = msgspec.json.decode((await look_at_one(store, "alerts")).body)
        assert (alert["reason"], alert["attempts"]) == ("expired", 1)

    async def test_a_deleted_message_is_told_of_too(self, store: Store) -> None:
        await open_inbox(store, dead_letter_queue=None, alert_queue="alerts")
        worker = await a_worker(store)
        await a_dead_letter(store, worker)
        alert = msgspec.json.decode((await claim_one(store, worker, queue="alerts")).body)
        assert (alert["dead_letter_queue"], alert["headers"], alert["error"]) == (None, None, None)

    async def test_each_death_is_told_once(self, store: Store) -> None:
        await open_inbox(store, alert_queue="alerts")
        worker = await a_worker(store)
        await send_many(store, 3)
        await settle(store, worker, *[a_reject(lease) for lease in await claim(store, worker)])
        assert (await store.metrics("alerts")).backlog_messages == 3
        assert len(await look(store, "alerts")) == 3


@pytest.mark.anyio
class TestRedrive:
    async def test_a_redriven_message_begins_anew_where_it_came_from(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        id = await a_dead_letter(store, worker)
        seq = (await look_at_one(store, DEAD)).seq
        await clock.advance(5)
        assert await store.redrive(DEAD) == 1
        seen = await look_at_one(store)
        assert (seen.id, seen.seq, seen.attempts, seen.dead) == (id, seq, 0, None)
        assert seen.ready_at == clock.now_ms()
        lease = await claim_one(store, worker)
        assert lease.attempts == 1
        assert await look(store, DEAD) == []

    async def test_it_says_how_often_it_was_sent_back_and_a_release_says_nothing(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        for headers in (None, b'{"a":1}'):
            await a_dead_letter(store, worker, headers=headers)
            for times, end in ((1, a_reject), (2, an_ack)):
                assert await store.redrive(DEAD) == 1
                await settle(store, worker, a_release(await claim_one(store, worker)))
                lease = await claim_one(store, worker)
                assert read_redrives(lease.headers) == times
                assert (b'"a":1' in (lease.headers or b"")) == (headers is not None), "its own headers stay"
                await settle(store, worker, end(lease))

    async def test_it_moves_the_counters_too(self, store: Store) -> None:
        await open_inbox(store)
        await a_dead_letter(store, await a_worker(store), body=b"12345")
        await store.redrive(DEAD)
        here, there = await store.metrics("inbox"), await store.metrics(DEAD)
        assert (here.backlog_messages, here.backlog_bytes) == (1, 5)
        assert (there.backlog_messages, there.backlog_bytes) == (0, 0)

    async def test_dying_again_is_a_new_event(self, store: Store) -> None:
        await open_inbox(store, alert_queue="alerts")
        worker = await a_worker(store)
        await a_dead_letter(store, worker)
        await store.redrive(DEAD)
        await settle(store, worker, a_reject(await claim_one(store, worker), reason="again"))
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and dead.reason == "again"
        assert len(await look(store, "alerts")) == 2

    async def test_chosen_ones_go_and_the_others_stay(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        ids = [await a_dead_letter(store, worker) for _ in range(3)]
        chosen = (await look(store, DEAD))[1].seq
        assert await store.redrive(DEAD, seqs=[chosen, 999_999]) == 1
        assert await ids_in(store) == [ids[1]]
        assert await ids_in(store, DEAD) == [ids[0], ids[2]]

    async def test_a_limit_takes_the_oldest(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        ids = [await a_dead_letter(store, worker) for _ in range(3)]
        assert await store.redrive(DEAD, limit=2) == 2
        assert await ids_in(store) == ids[:2]

    async def test_letters_that_must_stay_take_nobodys_place(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        ids = [await a_dead_letter(store, worker) for _ in range(3)]
        await claim_one(store, worker, queue=DEAD)
        assert await store.redrive(DEAD, limit=1) == 1
        assert await ids_in(store) == [ids[1]]

    async def test_leased_dead_letters_stay(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await a_dead_letter(store, worker)
        lease = await claim_one(store, worker, queue=DEAD)
        assert await store.redrive(DEAD) == 0
        assert await store.redrive(DEAD, seqs=[lease.seq]) == 0
        await settle(store, worker, an_ack(lease))

    async def test_messages_that_never_died_stay(self, store: Store) -> None:
        await open_inbox(store)
        await send(store, queue=DEAD)
        assert await store.redrive(DEAD) == 0

    async def test_without_their_queue_of_origin_they_stay(self, store: Store) -> None:
        await open_inbox(store)
        await a_dead_letter(store, await a_worker(store))
        await store.delete_queue("inbox")
        assert await store.redrive(DEAD) == 0
        assert len(await look(store, DEAD)) == 1

    async def test_a_purge_of_the_origin_in_between_does_not_hide_them(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        id = await a_dead_letter(store, worker)
        await send(store)
        await store.purge("inbox")
        assert await store.redrive(DEAD) == 1
        await store.sweep()
        assert (await claim_one(store, worker)).id == id

    async def test_a_missing_queue_cannot_be_redriven(self, store: Store) -> None:
        with pytest.raises(QueueNotFoundError):
            await store.redrive("nowhere")


@pytest.mark.anyio
class TestExpiry:
    async def test_a_message_is_delivered_until_it_expires(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 2, expires_in_ms=10_000)
        await clock.advance(9.999)
        assert len(await claim(store, worker, limit=1)) == 1
        await clock.advance(0.001)
        assert await claim(store, worker) == []

    async def test_expired_messages_are_dead_letters(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        id = await send(store, expires_in_ms=10_000)
        await clock.advance(10)
        await claim(store, await a_worker(store))
        seen = await look_at_one(store, DEAD)
        assert seen.id == id and seen.dead is not None and seen.dead.reason == "expired"

    async def test_expired_messages_are_deleted_where_no_queue_follows(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        await send(store, expires_in_ms=10_000)
        await clock.advance(10)
        assert await claim(store, await a_worker(store)) == []
        assert await look(store) == []

    async def test_expired_messages_hold_nobody_up(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await send_many(store, 5, expires_in_ms=10_000, priority=9)
        id = await send(store)
        await clock.advance(10)
        assert (await claim_one(store, await a_worker(store), limit=3)).id == id

    async def test_a_leased_message_expires_only_when_it_comes_back(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store, expires_in_ms=10_000)
        lease = await claim_one(store, worker)
        await clock.advance(11)
        assert (await look_at_one(store)).leased
        await settle(store, worker, a_retry(lease))
        assert await claim(store, worker) == []
        assert len(await look(store, DEAD)) == 1

    async def test_a_message_older_than_retention_is_swept(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await store.update_queue("inbox", a_queue(retention_ms=60_000))
        await send(store)
        await clock.advance(60)
        assert (await store.sweep()).expired_messages == 0
        await clock.advance(0.001)
        assert (await store.sweep()).expired_messages == 1
        dead = (await look_at_one(store, DEAD)).dead
        assert dead is not None and dead.reason == "expired"

    async def test_retention_counts_from_the_moment_a_message_is_ready(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store, retention_ms=60_000)
        await send(store, delay_ms=30_000)
        await clock.advance(61)
        assert (await store.sweep()).expired_messages == 0
        await clock.advance(30)
        assert (await store.sweep()).expired_messages == 1
        assert await look(store) == []

    async def test_retention_starts_anew_for_a_dead_letter(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        await store.update_queue(DEAD, a_queue(retention_ms=60_000))
        await send(store)
        await clock.advance(3 * DAY_MS / 1000)
        worker = await a_worker(store)
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        await clock.advance(60)
        assert (await store.sweep()).expired_messages == 0
        await clock.advance(1)
        assert (await store.sweep()).expired_messages == 1
        assert await look(store, DEAD) == []

    async def test_putting_a_message_off_does_not_make_it_younger(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store, retention_ms=60_000)
        await send(store)
        worker = await a_worker(store)
        await clock.advance(50)
        await settle(store, worker, a_release(await claim_one(store, worker), delay_ms=11_000))
        await clock.advance(11)
        assert await claim(store, worker) == []
        assert await look(store) == []

    async def test_a_leased_message_is_not_swept(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store, retention_ms=60_000)
        worker = await a_worker(store)
        await send(store)
        await claim_one(store, worker)
        for _ in range(10):
            await clock.advance(10)
            await store.renew_owners([worker])
        assert (await store.sweep()).total == 0
        assert len(await look(store)) == 1

    async def test_a_sweep_has_an_end(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store, retention_ms=60_000)
        for _ in range(11):
            await send_many(store, 100)
        await clock.advance(61)
        assert (await store.sweep()).expired_messages == 1_000
        assert (await store.sweep()).expired_messages == 100
        assert (await store.sweep()).total == 0
