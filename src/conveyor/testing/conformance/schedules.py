"""C1: ticks become messages once, and runs tell what came of them."""

from __future__ import annotations

import pytest

from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.errors import QueueNotFoundError
from conveyor.store.protocol import Store
from conveyor.store.records import Fired, RunStatus
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    DEAD,
    a_worker,
    claim_one,
    ids_in,
    look,
    open_inbox,
    open_queue,
    settle,
)
from conveyor.testing.factories import a_draft, a_firing, a_reject, a_schedule, an_ack


@pytest.mark.anyio
class TestSchedules:
    async def test_a_schedule_is_what_was_declared(self, store: Store) -> None:
        made = await store.declare_schedule(a_schedule(), 1_000)
        assert (made.draft, made.version, made.next_tick, made.paused) == (a_schedule(), 1, 1_000, False)
        assert await store.get_schedule("nightly") == made

    async def test_the_same_declaration_changes_nothing(self, store: Store) -> None:
        made = await store.declare_schedule(a_schedule(), 1_000)
        assert await store.declare_schedule(a_schedule(), 9_000) == made

    async def test_another_declaration_is_a_new_version_with_its_own_next_tick(self, store: Store) -> None:
        await store.declare_schedule(a_schedule(), 1_000)
        changed = await store.declare_schedule(a_schedule(expression="0 4 * * *"), 9_000)
        assert (changed.version, changed.next_tick) == (2, 9_000)
        assert changed.draft.expression == "0 4 * * *"

    async def test_a_new_version_stays_paused(self, store: Store) -> None:
        await store.declare_schedule(a_schedule(), 1_000)
        await store.pause_schedule("nightly")
        assert (await store.declare_schedule(a_schedule(timezone="Europe/Berlin"), 2_000)).paused

    async def test_schedules_are_listed_by_name(self, store: Store) -> None:
        for name in ("b", "a"):
            await store.declare_schedule(a_schedule(name=name), None)
        assert [schedule.draft.name for schedule in await store.list_schedules()] == ["a", "b"]

    async def test_a_missing_schedule_is_said_to_be_missing(self, store: Store) -> None:
        await open_queue(store)
        for ask_of_it in (
            store.get_schedule("nightly"),
            store.pause_schedule("nightly"),
            store.resume_schedule("nightly", 1_000),
            store.fire(a_firing()),
            store.list_runs("nightly", limit=5),
        ):
            with pytest.raises(ScheduleNotFoundError):
                await ask_of_it

    async def test_a_missed_tick_is_recorded_and_not_sent(self, store: Store) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(overlap="skip"), 1_000)
        assert await store.fire(a_firing(missed=True)) is Fired.MISSED
        assert await store.fire(a_firing()) is Fired.TAKEN
        (run,) = await store.list_runs("nightly", limit=5)
        assert run.status is RunStatus.MISSED
        assert (await store.get_schedule("nightly")).next_tick == 2_000
        assert await look(store) == []
        assert await store.fire(a_firing(tick=2_000)) is Fired.SENT

    async def test_a_tick_becomes_one_message(self, store: Store) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(), 1_000)
        message = a_draft()
        assert await store.fire(a_firing(message=message)) is Fired.SENT
        assert await store.fire(a_firing()) is Fired.TAKEN
        assert await ids_in(store) == [message.id]
        assert (await store.get_schedule("nightly")).next_tick == 2_000

    async def test_every_tick_has_a_message_of_its_own(self, store: Store) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(), 1_000)
        for tick in (1_000, 2_000):
            assert await store.fire(a_firing(tick=tick, next_tick=tick + 1_000)) is Fired.SENT
        assert len(await look(store)) == 2

    async def test_ticks_of_other_schedules_are_other_ticks(self, store: Store) -> None:
        await open_queue(store)
        for name in ("a", "b"):
            await store.declare_schedule(a_schedule(name=name), 1_000)
            assert await store.fire(a_firing(schedule=name)) is Fired.SENT

    async def test_a_tick_taken_by_hand_does_not_stop_the_schedule(self, store: Store) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(), 1_000)
        assert await store.fire(a_firing(tick=1_000, next_tick=None, trigger="manual")) is Fired.SENT
        assert await store.fire(a_firing(tick=1_000, next_tick=2_000)) is Fired.TAKEN
        assert (await store.get_schedule("nightly")).next_tick == 2_000

    async def test_an_older_version_does_not_fire(self, store: Store) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(), 1_000)
        await store.declare_schedule(a_schedule(expression="0 4 * * *"), 5_000)
        assert await store.fire(a_firing(version=1)) is Fired.STALE
        assert await look(store) == []
        assert (await store.get_schedule("nightly")).next_tick == 5_000

    async def test_a_paused_schedule_fires_only_by_hand(self, store: Store) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(), 1_000)
        await store.pause_schedule("nightly")
        assert (await store.get_schedule("nightly")).paused
        assert await store.fire(a_firing()) is Fired.PAUSED
        assert await store.fire(a_firing(tick=1_234, next_tick=None, trigger="manual")) is Fired.SENT
        assert (await store.get_schedule("nightly")).next_tick == 1_000
        await store.resume_schedule("nightly", 3_000)
        resumed = await store.get_schedule("nightly")
        assert (resumed.paused, resumed.next_tick) == (False, 3_000)

    async def test_a_firing_that_cannot_be_sent_leaves_the_tick_open(self, store: Store) -> None:
        await store.declare_schedule(a_schedule(), 1_000)
        with pytest.raises(QueueNotFoundError):
            await store.fire(a_firing())
        assert await store.list_runs("nightly", limit=5) == []
        assert (await store.get_schedule("nightly")).next_tick == 1_000
        await open_queue(store)
        assert await store.fire(a_firing()) is Fired.SENT

    async def test_skipping_waits_for_the_last_run_to_be_over(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await store.declare_schedule(a_schedule(overlap="skip"), 1_000)
        assert await store.fire(a_firing(tick=1_000)) is Fired.SENT
        assert await store.fire(a_firing(tick=2_000, next_tick=3_000)) is Fired.SKIPPED
        lease = await claim_one(store, worker)
        assert await store.fire(a_firing(tick=3_000, next_tick=4_000)) is Fired.SKIPPED
        assert (await store.get_schedule("nightly")).next_tick == 4_000
        await settle(store, worker, an_ack(lease))
        assert await store.fire(a_firing(tick=4_000, next_tick=5_000)) is Fired.SENT
        statuses = [run.status for run in await store.list_runs("nightly", limit=9)]
        assert statuses[1:3] == [RunStatus.SKIPPED, RunStatus.SKIPPED]

    async def test_a_run_is_not_over_before_its_message_is(self, store: Store) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(overlap="skip"), 1_000)
        await store.fire(a_firing(tick=1_000))
        await store.finish_run("nightly", 1_000, error="will be tried again")
        assert await store.fire(a_firing(tick=2_000)) is Fired.SKIPPED

    async def test_a_dead_letter_holds_no_run_up(self, store: Store) -> None:
        await open_inbox(store)
        worker = await a_worker(store)
        await store.declare_schedule(a_schedule(overlap="skip"), 1_000)
        await store.fire(a_firing(tick=1_000))
        await settle(store, worker, a_reject(await claim_one(store, worker)))
        assert len(await look(store, DEAD)) == 1
        assert await store.fire(a_firing(tick=2_000)) is Fired.SENT

    @pytest.mark.parametrize("overlap", ["allow", "queue"])
    async def test_other_overlaps_send_at_once(self, store: Store, overlap: str) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(overlap=overlap), 1_000)
        for tick in (1_000, 2_000):
            assert await store.fire(a_firing(tick=tick)) is Fired.SENT


@pytest.mark.anyio
class TestRuns:
    async def test_a_run_is_queued_running_and_over(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(), 1_000)
        await store.fire(a_firing(correlation_id="c-7"))
        fired_at = clock.now_ms()
        (run,) = await store.list_runs("nightly", limit=5)
        assert (run.schedule, run.tick, run.trigger, run.correlation_id) == ("nightly", 1_000, "schedule", "c-7")
        assert (run.status, run.fired_at, run.started_at) == (RunStatus.QUEUED, fired_at, None)
        await clock.advance(1)
        await store.begin_run("nightly", 1_000)
        (run,) = await store.list_runs("nightly", limit=5)
        assert (run.status, run.started_at, run.finished_at) == (RunStatus.RUNNING, fired_at + 1_000, None)
        await clock.advance(1)
        await store.finish_run("nightly", 1_000, error=None)
        (run,) = await store.list_runs("nightly", limit=5)
        assert (run.status, run.finished_at, run.error) == (RunStatus.SUCCEEDED, fired_at + 2_000, None)

    async def test_a_failed_run_says_why(self, store: Store) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(), 1_000)
        await store.fire(a_firing())
        await store.begin_run("nightly", 1_000)
        await store.finish_run("nightly", 1_000, error="boom")
        (run,) = await store.list_runs("nightly", limit=5)
        assert (run.status, run.error) == (RunStatus.FAILED, "boom")

    async def test_a_second_attempt_runs_again(self, store: Store) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(), 1_000)
        await store.fire(a_firing())
        await store.begin_run("nightly", 1_000)
        await store.finish_run("nightly", 1_000, error="boom")
        await store.begin_run("nightly", 1_000)
        (run,) = await store.list_runs("nightly", limit=5)
        assert (run.status, run.finished_at, run.error) == (RunStatus.RUNNING, None, None)

    @pytest.mark.parametrize("begun", [False, True])
    async def test_a_run_whose_message_ended_without_a_word_has_failed(self, store: Store, begun: bool) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await store.declare_schedule(a_schedule(), 1_000)
        await store.fire(a_firing())
        lease = await claim_one(store, worker)
        if begun:
            await store.begin_run("nightly", 1_000)
        await settle(store, worker, a_reject(lease))
        (run,) = await store.list_runs("nightly", limit=5)
        assert (run.status, run.error) == (RunStatus.FAILED, "ended without a word")

    async def test_a_word_of_success_outlives_the_message(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        await store.declare_schedule(a_schedule(), 1_000)
        await store.fire(a_firing())
        lease = await claim_one(store, worker)
        await store.finish_run("nightly", 1_000, error=None)
        await settle(store, worker, an_ack(lease))
        (run,) = await store.list_runs("nightly", limit=5)
        assert run.status is RunStatus.SUCCEEDED

    async def test_runs_are_listed_newest_first_and_page_by_page(self, store: Store) -> None:
        await open_queue(store)
        await store.declare_schedule(a_schedule(), 1_000)
        for tick in (1_000, 2_000, 3_000, 4_000):
            await store.fire(a_firing(tick=tick))
        page = await store.list_runs("nightly", limit=2)
        rest = await store.list_runs("nightly", limit=9, before_tick=page[-1].tick)
        assert [run.tick for run in page + rest] == [4_000, 3_000, 2_000, 1_000]

    async def test_words_about_a_run_that_never_was_are_ignored(self, store: Store) -> None:
        await store.declare_schedule(a_schedule(), 1_000)
        await store.begin_run("nightly", 7)
        await store.finish_run("nightly", 7, error=None)
        assert await store.list_runs("nightly", limit=5) == []
