"""Renames: all that is a queue's own goes with it, whatever is under way, and the old name is free."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from conveyor.model.beside import QueueNotRenamableError
from conveyor.model.errors import (
    InvalidSettingError,
    QueueExistsError,
    QueueNotFoundError,
    VersionConflictError,
)
from conveyor.model.ids import MessageId
from conveyor.model.job import JobState
from conveyor.model.message import SEALED_MARK
from conveyor.model.rate import Rate
from conveyor.model.verdict import Action
from conveyor.store.protocol import Store
from conveyor.store.records import QueueInfo
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.changes import Watcher
from conveyor.testing.conformance.groups import SUCCEEDED, Circle, ack
from conveyor.testing.conformance.jobs import QUEUE, Desk
from conveyor.testing.conformance.stepping import a_step, write
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    ask,
    claim,
    claim_one,
    ids_in,
    ids_of,
    look,
    look_at_one,
    open_inbox,
    open_queue,
    pull_one,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import (
    a_claim,
    a_delivery,
    a_draft,
    a_firing,
    a_queue,
    a_reject,
    a_release,
    a_retry,
    a_schedule,
    an_ack,
)

NEW = "post"
SEALED = SEALED_MARK + b'0123456789abcdef","queue":"inbox"}'


async def rename(store: Store, name: str = "inbox", new: str = NEW) -> QueueInfo:
    return await store.rename_queue(name, new)


@pytest.mark.anyio
class TestRenames:
    async def test_a_queue_is_what_it_was_but_for_its_name(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, max_retries=7)
        was = await store.update_queue("inbox", a_queue(retention_ms=90_000))
        await store.pause("inbox")
        await clock.advance(1)
        now = await rename(store)
        assert (now.name, now.first_name, now.settings, now.consumer) == (NEW, "inbox", was.settings, was.consumer)
        assert (now.paused, now.created_at, now.modified_at) == (True, was.created_at, clock.now_ms())
        assert now.version > was.version
        assert await store.get_queue(NEW) == now
        assert [each.name for each in await store.list_queues()] == [DEAD, NEW]

    async def test_the_old_name_is_nobodys(self, store: Store) -> None:
        await open_inbox(store)
        await rename(store)
        worker = await a_worker(store)
        for ask_of_it in (store.get_queue("inbox"), store.append([a_draft()]), ask(store, worker)):
            with pytest.raises(QueueNotFoundError) as caught:
                await ask_of_it
            assert f"it was renamed, and is `{NEW}` now" in caught.value.hint
        await open_inbox(store)
        second = await send(store)
        assert (await ids_in(store), await ids_in(store, NEW)) == ([second], [])
        assert (await store.get_queue("inbox")).first_name is None

    async def test_a_name_is_taken_once(self, store: Store) -> None:
        await open_queue(store)
        await open_queue(store, NEW)
        await send(store)
        with pytest.raises(QueueExistsError):
            await rename(store)
        with pytest.raises(InvalidSettingError):
            await rename(store, new="no name")
        with pytest.raises(QueueNotFoundError):
            await rename(store, name="nowhere", new="somewhere")
        read = await store.get_queue("inbox")
        with pytest.raises(VersionConflictError):
            await store.rename_queue("inbox", "other", version=read.version + 1)
        assert await store.rename_queue("inbox", "inbox", version=read.version) == read
        assert len(await look(store)) == 1

    async def test_messages_go_with_it_in_their_order(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ordered=True)
        worker = await a_worker(store)
        held = await send(store, key="k")
        lease = await claim_one(store, worker)
        blocked, urgent = await send(store, key="k"), await send(store, priority=9)
        later = await send(store, delay_ms=5_000)
        was = await store.metrics("inbox")
        await rename(store)
        assert await store.metrics(NEW) == was
        assert await ids_in(store, NEW) == [held, blocked, urgent, later]
        assert ids_of(await claim(store, worker, queue=NEW)) == [urgent]
        await settle(store, worker, an_ack(lease))
        assert ids_of(await claim(store, worker, queue=NEW)) == [blocked]
        await clock.advance(5)
        assert ids_of(await claim(store, worker, queue=NEW)) == [later]

    async def test_leases_that_are_held_are_settled(self, store: Store) -> None:
        await open_inbox(store, max_retries=0)
        worker = await a_worker(store)
        await send_many(store, 4)
        acked, tried, released, rejected = await claim(store, worker)
        await rename(store)
        settled = await store.settle(worker, [an_ack(acked), a_retry(tried), a_release(released), a_reject(rejected)])
        assert (settled.lost, settled.dead) == ([], [tried.seq, rejected.seq])
        assert await ids_in(store, NEW) == [released.id]
        assert [each.dead.origin_queue for each in await look(store, DEAD) if each.dead] == [NEW, NEW]
        assert await store.redrive(DEAD) == 2
        assert len(await look(store, NEW)) == 3

    async def test_pulled_leases_too(self, store: Store) -> None:
        await open_queue(store)
        await send(store)
        lease = await pull_one(store)
        await rename(store)
        await store.extend(lease.seq, lease.claim, 60_000)
        assert (await store.settle_pulled([an_ack(lease)])).lost == []
        assert await look(store, NEW) == []

    async def test_slots_are_given_back_by_who_knows_the_old_name(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=1)
        old, new = await a_worker(store), await a_worker(store)
        await send_many(store, 2)
        lease = await claim_one(store, old)
        await rename(store)
        assert await claim(store, new, queue=NEW) == []
        await store.settle(old, [an_ack(lease)], ended={"inbox": 1})
        other = await claim_one(store, new, queue=NEW)
        assert await store.reconcile(new, "inbox", [], calls=0) == 1
        assert (await claim_one(store, old, queue=NEW)).id == other.id

    async def test_dedupe_keys_and_windows_go_with_it(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, rate=Rate(2, 10_000))
        worker = await a_worker(store)
        first = await send(store, dedupe="k")
        await send(store)
        assert len(await claim(store, worker)) == 2
        await rename(store)
        again = (await store.append([a_draft(queue=NEW, dedupe="k")]))[0]
        assert (again.id, again.deduped) == (first, True)
        await send(store, queue=NEW)
        assert await claim(store, worker, queue=NEW) == []
        await clock.advance(12)
        assert len(await claim(store, worker, queue=NEW)) == 1

    async def test_others_lead_to_its_new_name(self, store: Store) -> None:
        await open_inbox(store, max_retries=0, alert_queue="alerts")
        worker = await a_worker(store)
        await store.declare_schedule(a_schedule(), 1_000)
        for name, new in ((DEAD, "graves"), ("alerts", "sirens")):
            await rename(store, name, new)
        consumer = (await store.get_queue("inbox")).consumer
        assert consumer is not None
        assert (consumer.dead_letter_queue, consumer.alert_queue) == ("graves", "sirens")
        await open_inbox(store, max_retries=0, alert_queue="alerts")  # as declared before: the app starts again
        assert [each.name for each in await store.list_queues()] == ["graves", "inbox", "sirens"]
        await send(store)
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        assert (await look_at_one(store, "graves")).dead is not None
        assert len(await look(store, "sirens")) == 1

    async def test_schedules_send_to_its_new_name(self, store: Store) -> None:
        await open_queue(store)
        was = await store.declare_schedule(a_schedule(overlap="skip"), 1_000)
        first = a_firing(version=was.version)
        await store.fire(first)
        await rename(store)
        now = await store.get_schedule("nightly")
        assert (now.draft.queue, now.next_tick) == (NEW, first.next_tick)
        assert now.version > was.version
        assert [run.tick for run in await store.list_runs("nightly", limit=5)] == [first.tick]
        assert await ids_in(store, NEW) == [first.message.id]

    async def test_jobs_go_with_it(self, desk: Desk) -> None:
        done, failed, late = [await desk.take_new() for _ in range(3)]
        await desk.settle(done, Action.ACK, JobState.SUCCEEDED, result=b"1")
        await write(desk, failed, a_step(desk))
        await rename(desk.store, QUEUE, "b")
        await desk.settle(failed, Action.RETRY, JobState.RETRYING, error="no", delay_ms=1_000)
        await write(desk, late, a_step(desk))
        await desk.settle(late, Action.ACK, JobState.SUCCEEDED, result=b"2")
        for lease in (done, failed, late):
            found = await desk.find(lease.id)
            assert found.record is not None
            assert found.record.queue == "b"
        assert await desk.state(failed.id) is JobState.RETRYING
        cancelled = await desk.store.jobs.cancel(failed.id)
        assert cancelled is not None
        assert await ids_in(desk.store, "b") == []

    async def test_members_of_groups_that_are_not_sent_yet_go_there(self, desk: Desk, circle: Circle) -> None:
        circle.add()
        circle.add(0)
        await circle.start()
        first = await desk.take()
        await rename(desk.store, QUEUE, "b")
        await rename(desk.store, "reports", "b-dlq")
        await ack(desk, first)
        [second] = await claim(desk.store, desk.owner, queue="b")
        await ack(desk, second)
        assert await circle.states() == [SUCCEEDED, SUCCEEDED]
        assert [each.queue for each in await desk.store.groups.members(circle.id, limit=9)] == ["b", "b"]
        assert len(await look(desk.store, "b-dlq")) == 1

    async def test_an_apps_own_queue_keeps_its_name(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        await store.set_alarm("tea", clock.now_ms() + 5_000, a_draft())
        await open_queue(store, "hooks")
        message = a_draft(queue="hooks")
        await store.open_deliveries([(a_delivery(message), message)])
        for name in ("inbox", "hooks"):
            with pytest.raises(QueueNotRenamableError):
                await rename(store, name)
        await store.cancel_alarm("tea")
        assert (await rename(store)).name == NEW

    @pytest.mark.parametrize("where", ["ready", "leased", "dead"])
    async def test_what_is_sealed_is_bound_to_the_name(self, store: Store, where: str) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await send(store)
        await send(store, body=SEALED)
        if where != "ready":
            _, sealed = await claim(store, worker)
            if where == "dead":
                await settle(store, worker, a_reject(sealed))
        with pytest.raises(QueueNotRenamableError):
            await rename(store)
        assert (await store.get_queue("inbox")).first_name is None
        await store.discard(DEAD if where == "dead" else "inbox", [each.seq for each in await look(store, "inbox")])
        await store.purge(DEAD)
        await store.purge("inbox")
        assert (await rename(store)).name == NEW

    async def test_what_is_sealed_of_jobs_too(self, desk: Desk, circle: Circle) -> None:
        lease = await desk.take_new()
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED, result=SEALED)
        with pytest.raises(QueueNotRenamableError):
            await rename(desk.store, QUEUE, "b")
        circle.add(queue="plain")
        circle.add(0, queue="plain", body=SEALED)
        await circle.start()
        with pytest.raises(QueueNotRenamableError):
            await rename(desk.store, "plain", "b")

    async def test_back_and_forth(self, store: Store) -> None:
        await open_queue(store)
        first = await send(store)
        for name, new in (("inbox", NEW), (NEW, "mail"), ("mail", NEW), (NEW, "inbox"), ("inbox", "mail")):
            assert (await rename(store, name, new)).first_name == "inbox"
        await open_queue(store)
        await rename(store, new=NEW)  # the second one of this name
        assert (await ids_in(store, "mail"), await ids_in(store, NEW)) == ([first], [])
        with pytest.raises(QueueNotFoundError) as caught:
            await store.get_queue("inbox")
        assert f"is `{NEW}` now" in caught.value.hint

    async def test_a_rename_is_shown_before_and_after(self, store: Store) -> None:
        await open_queue(store)
        watcher = Watcher()
        with watcher.watch():
            await rename(store)
        [change] = watcher.seen
        assert isinstance(change.before, QueueInfo)
        assert isinstance(change.after, QueueInfo)
        assert (change.name, change.before.name, change.after.name) == ("inbox", "inbox", NEW)

    async def test_nothing_is_lost_or_doubled_while_workers_lease_and_settle(self, store: Store) -> None:
        await open_inbox(store, max_concurrency=5)
        worker = await a_worker(store)
        names, sent = ["inbox"], set(await send_many(store, 20))
        done: list[MessageId] = []
        is_over = asyncio.Event()

        async def produce() -> None:
            while len(sent) < 60:
                with contextlib.suppress(QueueNotFoundError):
                    sent.update(await send_many(store, 2, queue=names[-1]))
                await asyncio.create_task(store.metrics(DEAD))

        async def consume() -> None:
            while not is_over.is_set() or len(done) < len(sent):
                known = names[-1]
                await asyncio.create_task(store.metrics(DEAD))  # somebody else's turn
                with contextlib.suppress(QueueNotFoundError):
                    claimed = await store.claim(a_claim(owner=worker, queue=known, limit=3))
                    await asyncio.create_task(store.metrics(DEAD))
                    done.extend(ids_of(claimed.leases))
                    await store.settle(worker, [an_ack(each) for each in claimed.leases], ended={known: claimed.calls})

        async def rename_often() -> None:
            for number in range(8):
                await asyncio.create_task(store.metrics(DEAD))
                await store.rename_queue(names[-1], f"inbox{number}")
                names.append(f"inbox{number}")

        async with asyncio.timeout(60):
            tasks = [asyncio.create_task(each) for each in (produce(), consume(), consume())]
            await rename_often()
            await tasks[0]
            is_over.set()
            await asyncio.gather(*tasks)
        assert len(done) == len(sent)
        assert set(done) == sent
        assert (await store.metrics(names[-1])).backlog_messages == 0
