"""Queues, their consumers, T9 and T11."""

from __future__ import annotations

import pytest

from conveyor.model.errors import ConsumerConflictError, InvalidSettingError, QueueExistsError, QueueNotFoundError, VersionConflictError
from conveyor.model.settings import ConsumerType, QueueSettings
from conveyor.model.verdict import Backoff
from conveyor.store.protocol import Store
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    ask,
    claim,
    claim_one,
    consumer_of,
    ids_in,
    ids_of,
    look,
    open_inbox,
    open_queue,
    pull,
    pull_one,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_consumer, a_queue, a_reject, a_release, a_retry, an_ack


@pytest.mark.anyio
class TestQueues:
    async def test_a_queue_is_what_it_was_made(self, store: Store, clock: ManualClock) -> None:
        settings = QueueSettings(
            delivery_delay_ms=1,
            retention_ms=120_000,
            dedupe_window_ms=3,
            max_message_bytes=4,
            max_batch_messages=5,
            max_batch_bytes=6,
            max_backlog_messages=7,
            max_backlog_bytes=8,
        )
        made = await store.create_queue("inbox", settings)
        assert (made.name, made.settings, made.consumer, made.paused) == ("inbox", settings, None, False)
        assert (made.created_at, made.modified_at) == (clock.now_ms(), clock.now_ms())
        assert await store.get_queue("inbox") == made

    async def test_a_name_is_taken_once(self, store: Store) -> None:
        await open_queue(store)
        with pytest.raises(QueueExistsError):
            await store.create_queue("inbox", a_queue(retention_ms=60_000))
        assert (await store.get_queue("inbox")).settings == a_queue()

    async def test_settings_may_change(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        before = await store.get_queue("inbox")
        await clock.advance(1)
        after = await store.update_queue("inbox", a_queue(delivery_delay_ms=9))
        assert after.settings.delivery_delay_ms == 9
        assert after.version > before.version
        assert (after.created_at, after.modified_at) == (before.created_at, clock.now_ms())
        assert await store.get_queue("inbox") == after

    async def test_a_change_may_be_of_one_version_only(self, store: Store) -> None:
        await open_queue(store)
        read = (await store.get_queue("inbox")).version
        changed = await store.update_queue("inbox", a_queue(delivery_delay_ms=1), version=read)
        with pytest.raises(VersionConflictError):
            await store.update_queue("inbox", a_queue(delivery_delay_ms=2), version=read)
        with pytest.raises(VersionConflictError):
            await store.put_consumer("inbox", a_consumer(), version=read)
        assert await store.get_queue("inbox") == changed
        consumed = await store.put_consumer("inbox", a_consumer(), version=changed.version)
        assert (await store.put_consumer("inbox", None, version=consumed.version)).consumer is None

    async def test_settings_out_of_bounds_are_refused(self, store: Store) -> None:
        with pytest.raises(InvalidSettingError):
            await store.create_queue("inbox", a_queue(retention_ms=1))
        with pytest.raises(InvalidSettingError):
            await store.create_queue("no name", a_queue())
        with pytest.raises(InvalidSettingError):
            await store.declare_consumer("inbox", a_consumer(max_batch_size=0))
        assert await store.list_queues() == []

    async def test_queues_are_listed_by_name(self, store: Store) -> None:
        for name in ("b", "c", "a"):
            await open_queue(store, name)
        assert [queue.name for queue in await store.list_queues()] == ["a", "b", "c"]
        assert await store.get_queue("b") in await store.list_queues()

    async def test_a_missing_queue_is_said_to_be_missing(self, store: Store) -> None:
        for ask_of_it in (
            store.get_queue("nowhere"),
            store.update_queue("nowhere", a_queue()),
            store.delete_queue("nowhere"),
            store.pause("nowhere"),
            store.resume("nowhere"),
            store.purge("nowhere"),
            store.metrics("nowhere"),
            store.peek("nowhere", limit=1),
            store.put_consumer("nowhere", None),
        ):
            with pytest.raises(QueueNotFoundError):
                await ask_of_it

    async def test_a_deleted_queue_takes_its_messages_with_it(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 3)
        leases = await claim(store, worker, limit=2)
        await store.delete_queue("inbox")
        with pytest.raises(QueueNotFoundError):
            await store.get_queue("inbox")
        settled = await store.settle(worker, [an_ack(leases[0]), a_retry(leases[1])])
        assert (settled.lost, settled.dead) == ([], [])

    async def test_a_queue_made_again_is_a_new_one(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=1)
        worker = await a_worker(store)
        first = await send(store, dedupe="k")
        await claim(store, worker)
        await store.pause("inbox")
        await store.delete_queue("inbox")
        await open_inbox(store, max_concurrency=1)
        assert await look(store) == []
        second = await send(store, dedupe="k")
        assert second != first
        assert ids_of(await claim(store, worker)) == [second]

    async def test_metrics_count_what_is_not_final(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        empty = await store.metrics("inbox")
        assert (empty.backlog_messages, empty.backlog_bytes, empty.leased, empty.oldest_ready_at) == (0, 0, 0, None)
        worker = await a_worker(store)
        oldest = clock.now_ms()
        await send(store, body=b"123")
        await clock.advance(1)
        await send(store, body=b"12", priority=9)
        await send(store, body=b"1", delay_ms=60_000)
        metrics = await store.metrics("inbox")
        assert (metrics.backlog_messages, metrics.backlog_bytes, metrics.leased) == (3, 6, 0)
        assert metrics.oldest_ready_at == oldest
        first, second = await claim(store, worker)
        assert (await store.metrics("inbox")).leased == 2
        await settle(store, worker, an_ack(first), a_release(second))
        metrics = await store.metrics("inbox")
        assert (metrics.backlog_messages, metrics.backlog_bytes, metrics.leased) == (2, 4, 0)

    async def test_a_peek_goes_on_after_a_seq(self, store: Store) -> None:
        await open_queue(store)
        ids = [await send(store, priority=number % 10) for number in range(5)]
        first = await store.peek("inbox", limit=2)
        rest = await store.peek("inbox", limit=9, after_seq=first[-1].seq)
        assert [message.id for message in first + rest] == ids

    async def test_a_peek_sees_messages_in_every_state(self, store: Store) -> None:
        await open_queue(store)
        ids = [await send(store), await send(store, delay_ms=60_000), await send(store)]
        await claim(store, await a_worker(store), limit=1)
        assert await ids_in(store) == ids


@pytest.mark.anyio
class TestConsumers:
    async def test_a_declaration_makes_the_queues_it_needs(self, store: Store) -> None:
        wanted = a_consumer(dead_letter_queue=DEAD, alert_queue="alerts")
        info = await store.declare_consumer("inbox", wanted)
        assert (info.name, info.consumer, info.settings) == ("inbox", wanted, a_queue())
        assert [queue.name for queue in await store.list_queues()] == ["alerts", "inbox", DEAD]

    async def test_every_setting_is_kept(self, store: Store) -> None:
        wanted = a_consumer(
            max_batch_size=2,
            max_batch_timeout_ms=3,
            max_retries=4,
            retry_delay=Backoff.exponential("2s", most="1h"),
            max_concurrency=5,
            dead_letter_queue=DEAD,
            alert_queue="alerts",
            timeout_ms=6,
            visibility_timeout_ms=7,
            ordered=True,
            key_concurrency=8,
        )
        await store.declare_consumer("inbox", wanted)
        assert await consumer_of(store) == wanted

    async def test_a_queue_that_is_there_keeps_its_settings_and_messages(self, store: Store) -> None:
        await open_queue(store, retention_ms=60_000)
        id = await send(store)
        await open_inbox(store)
        assert (await store.get_queue("inbox")).settings.retention_ms == 60_000
        assert await ids_in(store) == [id]

    async def test_the_same_declaration_leaves_an_operators_edits_alone(self, store: Store) -> None:
        await store.declare_consumer("inbox", a_consumer(max_retries=1))
        await store.put_consumer("inbox", a_consumer(max_retries=7))
        info = await store.declare_consumer("inbox", a_consumer(max_retries=1))
        assert info.consumer == a_consumer(max_retries=7) == await consumer_of(store)

    async def test_another_declaration_of_the_same_script_is_written(self, store: Store) -> None:
        await store.declare_consumer("inbox", a_consumer(max_retries=1))
        await store.put_consumer("inbox", a_consumer(max_retries=7))
        await store.declare_consumer("inbox", a_consumer(max_retries=2))
        assert await consumer_of(store) == a_consumer(max_retries=2)

    async def test_a_removed_consumer_is_declared_afresh(self, store: Store) -> None:
        await store.declare_consumer("inbox", a_consumer(max_retries=1))
        assert (await store.put_consumer("inbox", None)).consumer is None
        await store.declare_consumer("inbox", a_consumer(max_retries=1))
        assert await consumer_of(store) == a_consumer(max_retries=1)

    async def test_another_script_is_told_who_consumes(self, store: Store) -> None:
        await store.declare_consumer("inbox", a_consumer(script="shop"))
        with pytest.raises(ConsumerConflictError) as caught:
            await store.declare_consumer("inbox", a_consumer(script="bank", dead_letter_queue="bank-dead"))
        assert (caught.value.facts["present"], caught.value.facts["wanted"]) == ("shop", "bank")
        assert await consumer_of(store) == a_consumer(script="shop")
        assert [queue.name for queue in await store.list_queues()] == ["inbox"]

    async def test_a_pull_consumer_is_not_pushed_aside(self, store: Store) -> None:
        await open_queue(store)
        puller = a_consumer(type=ConsumerType.HTTP_PULL, script="")
        await store.put_consumer("inbox", puller)
        with pytest.raises(ConsumerConflictError):
            await store.declare_consumer("inbox", a_consumer())
        assert await consumer_of(store) == puller

    async def test_another_script_may_come_once_the_first_is_removed(self, store: Store) -> None:
        await store.declare_consumer("inbox", a_consumer(script="shop"))
        await store.put_consumer("inbox", None)
        await store.declare_consumer("inbox", a_consumer(script="bank"))
        assert await consumer_of(store) == a_consumer(script="bank")

    async def test_an_operators_consumer_gets_its_dead_letter_queue(self, store: Store) -> None:
        await open_queue(store)
        await store.put_consumer("inbox", a_consumer(dead_letter_queue=DEAD, alert_queue="alerts"))
        assert [queue.name for queue in await store.list_queues()] == ["alerts", "inbox", DEAD]

    async def test_new_retries_hold_for_messages_that_wait_already(self, store: Store) -> None:
        await open_inbox(store, max_retries=5)
        worker = await a_worker(store)
        await send(store)
        await store.put_consumer("inbox", a_consumer(max_retries=0, dead_letter_queue=DEAD))
        lease = await claim_one(store, worker)
        assert await settle(store, worker, a_retry(lease)) == [lease.seq]


@pytest.mark.anyio
class TestPause:
    async def test_a_paused_queue_hands_nothing_out(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await send(store)
        await store.pause("inbox")
        assert (await store.get_queue("inbox")).paused
        claimed = await ask(store, worker)
        assert (claimed.leases, claimed.opens_at) == ([], None)
        assert await pull(store) == []

    async def test_a_paused_queue_takes_messages_and_verdicts(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 3)
        a, b, c = await claim(store, worker)
        await store.pause("inbox")
        await settle(store, worker, an_ack(a), a_retry(b), a_reject(c))
        await send(store)
        assert len(await look(store)) == 2

    async def test_a_resumed_queue_goes_on(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        ids = await send_many(store, 2)
        await store.pause("inbox")
        await store.pause("inbox")
        await store.resume("inbox")
        assert not (await store.get_queue("inbox")).paused
        assert ids_of(await claim(store, worker)) == ids

    async def test_other_queues_are_not_paused(self, store: Store) -> None:
        await open_queue(store)
        await open_queue(store, "other")
        await store.pause("inbox")
        await send(store, queue="other")
        assert len(await claim(store, await a_worker(store), queue="other")) == 1


@pytest.mark.anyio
class TestPurge:
    async def test_everything_in_the_queue_is_gone(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 3)
        await send(store, delay_ms=60_000)
        await claim(store, worker, limit=1)
        assert await store.purge("inbox") == 4
        assert await look(store) == [] == await claim(store, worker)
        metrics = await store.metrics("inbox")
        assert (metrics.backlog_messages, metrics.backlog_bytes, metrics.leased) == (0, 0, 0)
        assert metrics.oldest_ready_at is None
        assert await store.purge("inbox") == 0

    async def test_later_verdicts_are_ignored(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send_many(store, 5)
        a, b, c, d = await claim(store, worker, limit=4)
        pulled = await pull_one(store)
        await store.purge("inbox")
        settled = await store.settle(worker, [an_ack(a), a_retry(b), a_reject(c), a_release(d)])
        assert (settled.lost, settled.dead) == ([], [])
        assert (await store.settle_pulled([an_ack(pulled)])).lost == []
        assert await look(store) == await look(store, DEAD) == []
        assert (await store.metrics("inbox")).backlog_messages == 0

    async def test_later_messages_are_not_touched(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await send_many(store, 3)
        await store.purge("inbox")
        id = await send(store)
        await store.sweep()
        assert await ids_in(store) == [id]
        assert (await store.metrics("inbox")).backlog_messages == 1
        assert ids_of(await claim(store, worker)) == [id]

    async def test_other_queues_keep_their_messages(self, store: Store) -> None:
        await open_queue(store)
        await open_queue(store, "other")
        await send(store, queue="other")
        await store.purge("inbox")
        assert len(await look(store, "other")) == 1

    async def test_purged_messages_do_not_fill_the_queue(self, store: Store) -> None:
        await open_queue(store, max_backlog_messages=1)
        await send(store)
        await store.purge("inbox")
        await send(store)

    async def test_running_calls_hold_their_slots_through_a_purge(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=1)
        worker = await a_worker(store)
        await send(store)
        await claim_one(store, worker)
        await store.purge("inbox")
        await send(store)
        assert await claim(store, worker) == []
        await store.settle(worker, [], ended={"inbox": 1})
        assert len(await claim(store, worker)) == 1

    async def test_a_purge_forgets_which_key_was_busy(self, store: Store) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        await send(store, key="k")
        await claim_one(store, worker)
        await store.purge("inbox")
        await send(store, key="k")
        assert len(await claim(store, worker)) == 1

    async def test_a_reaped_owner_brings_no_purged_message_back(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        await claim_one(store, worker)
        await store.purge("inbox")
        await clock.advance(60)
        await store.sweep()
        assert await look(store) == await look(store, DEAD) == []
        assert (await store.metrics("inbox")).backlog_messages == 0

    async def test_what_was_purged_is_swept(self, store: Store) -> None:
        await open_queue(store)
        await send_many(store, 30)
        await store.purge("inbox")
        for _ in range(5):
            await store.sweep()
        assert (await store.sweep()).total == 0
