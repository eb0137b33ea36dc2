"""A1: alarms, in the store's eyes."""

from __future__ import annotations

import pytest

from conveyor.model.beside import AlarmTakenError
from conveyor.model.errors import QueueNotFoundError, VersionConflictError
from conveyor.store.protocol import Store
from conveyor.store.records import AlarmState
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    claim,
    claim_one,
    ids_in,
    look,
    open_inbox,
    open_queue,
    settle,
)
from conveyor.testing.factories import a_draft, a_reject, a_retry, an_ack, an_id


@pytest.mark.anyio
class TestAlarms:
    async def test_an_alarm_is_a_message_that_waits(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        now, message = clock.now_ms(), a_draft()
        alarm = await store.set_alarm("tea", now + 5_000, message)
        assert (alarm.name, alarm.queue, alarm.message_id) == ("tea", "inbox", message.id)
        assert (alarm.due_at, alarm.set_at, alarm.next_at) == (now + 5_000, now, now + 5_000)
        assert (alarm.state, alarm.attempts, alarm.error) == (AlarmState.SCHEDULED, 0, None)
        assert await store.get_alarm("tea") == alarm
        assert await ids_in(store) == [message.id]

    async def test_it_rings_when_it_is_due_and_no_earlier(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        message = a_draft()
        await store.set_alarm("tea", clock.now_ms() + 5_000, message)
        await clock.advance(4.999)
        assert await claim(store, worker) == []
        await clock.advance(0.001)
        assert (await claim_one(store, worker)).id == message.id

    async def test_years_are_not_too_far(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        due_at = clock.now_ms() + 3 * 365 * 86_400_000
        assert (await store.set_alarm("tea", due_at, a_draft())).next_at == due_at

    async def test_what_is_past_rings_at_once(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        alarm = await store.set_alarm("tea", clock.now_ms() - 60_000, a_draft())
        assert (alarm.due_at, alarm.next_at) == (clock.now_ms() - 60_000, clock.now_ms())
        await claim_one(store, worker)

    async def test_set_again_it_is_another_and_the_former_is_gone(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        now = clock.now_ms()
        first, second = a_draft(), a_draft()
        await store.set_alarm("tea", now + 1_000, first)
        alarm = await store.set_alarm("tea", now + 9_000, second)
        assert (alarm.message_id, alarm.next_at) == (second.id, now + 9_000)
        assert await ids_in(store) == [second.id]
        assert (await store.metrics("inbox")).backlog_messages == 1
        assert await store.start_alarm("tea", first.id) is None
        assert await store.start_alarm("tea", second.id) == alarm

    async def test_alarms_of_other_names_are_others(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        for name in ("tea", "egg"):
            await store.set_alarm(name, clock.now_ms(), a_draft())
        assert await store.cancel_alarm("tea")
        assert await store.get_alarm("tea") is None
        assert await store.get_alarm("egg") is not None
        assert len(await look(store)) == 1

    async def test_a_cancelled_alarm_never_starts(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        message = a_draft()
        await store.set_alarm("tea", clock.now_ms(), message)
        assert await store.cancel_alarm("tea")
        assert await store.start_alarm("tea", message.id) is None
        assert await look(store) == []
        assert not await store.cancel_alarm("tea")

    async def test_a_run_that_goes_well_ends_the_alarm(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await store.set_alarm("tea", clock.now_ms(), a_draft())
        lease = await claim_one(store, worker)
        started = await store.start_alarm("tea", lease.id)
        assert started is not None
        assert (started.state, started.next_at, started.attempts) == (AlarmState.RUNNING, None, None)
        assert await store.finish_alarm("tea", lease.id, error=None)
        await settle(store, worker, an_ack(lease))
        assert await store.get_alarm("tea") is None
        assert not await store.finish_alarm("tea", lease.id, error=None)

    async def test_a_run_that_fails_says_why_and_is_tried_again(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        due_at = clock.now_ms()
        await store.set_alarm("tea", due_at, a_draft())
        lease = await claim_one(store, worker)
        assert await store.finish_alarm("tea", lease.id, error="boom\0")
        await settle(store, worker, a_retry(lease, delay_ms=2_000))
        alarm = await store.get_alarm("tea")
        assert alarm is not None
        assert (alarm.state, alarm.attempts, alarm.next_at) == (AlarmState.RETRYING, 1, due_at + 2_000)
        assert (alarm.due_at, alarm.failed_at) == (due_at, due_at)
        assert alarm.error is not None
        assert alarm.error.startswith("boom")

    async def test_an_exhausted_alarm_is_parked_and_can_be_set_anew(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, max_retries=0)
        worker = await a_worker(store)
        await store.set_alarm("tea", clock.now_ms(), a_draft())
        lease = await claim_one(store, worker)
        await store.finish_alarm("tea", lease.id, error="boom")
        await settle(store, worker, a_retry(lease))
        parked = await store.get_alarm("tea")
        assert parked is not None
        assert (parked.state, parked.next_at, parked.error) == (AlarmState.PARKED, None, "boom")
        assert len(await look(store, DEAD)) == 1
        again = await store.set_alarm("tea", clock.now_ms() + 1_000, a_draft(), was=parked.message_id)
        assert (again.state, again.error, again.failed_at) == (AlarmState.SCHEDULED, None, None)
        assert await look(store, DEAD) == [], "the dead letter of a former generation could never start"

    async def test_a_dead_letter_that_is_sent_back_rings_its_alarm(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        message = a_draft()
        await store.set_alarm("tea", clock.now_ms(), message)
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        assert await store.redrive(DEAD) == 1
        alarm = await store.start_alarm("tea", (await claim_one(store, worker)).id)
        assert alarm is not None
        assert alarm.state is AlarmState.RUNNING

    async def test_a_purge_parks_alarms(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        await store.set_alarm("tea", clock.now_ms(), a_draft())
        await store.purge("inbox")
        alarm = await store.get_alarm("tea")
        assert alarm is not None
        assert alarm.state is AlarmState.PARKED

    async def test_set_during_its_run_it_rings_again(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, key_concurrency=1)
        worker = await a_worker(store)
        await store.set_alarm("tea", clock.now_ms(), a_draft(key="tea"))
        running = await claim_one(store, worker)
        following = a_draft(key="tea")
        await store.set_alarm("tea", clock.now_ms(), following)
        assert await claim(store, worker) == [], "one run of a name at a time"
        assert not await store.finish_alarm("tea", running.id, error="boom")
        assert not await store.finish_alarm("tea", running.id, error=None)
        alarm = await store.get_alarm("tea")
        assert alarm is not None
        assert (alarm.message_id, alarm.state, alarm.error) == (following.id, AlarmState.SCHEDULED, None)
        await settle(store, worker, an_ack(running))
        assert (await claim_one(store, worker)).id == following.id

    async def test_cancelled_during_its_run_it_is_not_tried_again(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await store.set_alarm("tea", clock.now_ms(), a_draft())
        lease = await claim_one(store, worker)
        assert await store.cancel_alarm("tea")
        assert not await store.finish_alarm("tea", lease.id, error="boom")
        await settle(store, worker, an_ack(lease))

    async def test_a_changed_alarm_is_not_set_over(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        now = clock.now_ms()
        known = await store.set_alarm("tea", now, a_draft())
        present = await store.set_alarm("tea", now + 1, a_draft())
        for name, was in (("tea", known.message_id), ("egg", an_id())):
            with pytest.raises(VersionConflictError):
                await store.set_alarm(name, now + 2, a_draft(), was=was)
        assert await store.get_alarm("tea") == present
        assert len(await look(store)) == 1

    async def test_an_alarm_stays_in_its_queue(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        await open_queue(store, "other")
        alarm = await store.set_alarm("tea", clock.now_ms(), a_draft())
        with pytest.raises(AlarmTakenError):
            await store.set_alarm("tea", clock.now_ms(), a_draft(queue="other"))
        assert await look(store, "other") == []
        assert await store.get_alarm("tea") == alarm

    async def test_one_that_cannot_be_sent_is_not_set(self, store: Store, clock: ManualClock) -> None:
        with pytest.raises(QueueNotFoundError):
            await store.set_alarm("tea", clock.now_ms(), a_draft())
        assert await store.get_alarm("tea") is None

    async def test_alarms_are_listed_by_name_page_by_page(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await store.set_alarm("ä", clock.now_ms(), a_draft())
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        for name in ("b", "a"):
            await store.set_alarm(name, clock.now_ms(), a_draft())
        page = await store.list_alarms(limit=2)
        rest = await store.list_alarms(limit=9, after=page[-1].name)
        assert [each.name for each in page + rest] == ["a", "b", "ä"]
        assert [each.name for each in await store.list_alarms(limit=9, only_parked=True)] == ["ä"]
