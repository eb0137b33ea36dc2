"""Jobs: their records are written with the settlements, and their states derived from the messages."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from conveyor.model.ids import IdSource, MessageId
from conveyor.model.job import RECORD_MS, JobRecord, JobState
from conveyor.model.message import Draft, Lease
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.jobs import JobFound, JobsAsked
from conveyor.store.protocol import Store
from conveyor.store.records import ClaimRequest, Ending, Evidence, OwnerInfo
from conveyor.testing.clock import ManualClock

HEADERS = b'{"job":"mail"}'
QUEUE = "a"


class Desk:
    """A queue of jobs, and one worker of it."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.ids = IdSource(clock)
        self.owner = 0

    async def open(self, **settings: Any) -> Desk:
        told: dict[str, Any] = (
            {"script": "app"} | {"tracks_jobs": True, "dead_letter_queue": "a-dlq", "max_retries": 1} | settings
        )
        await self.store.declare_consumer(QUEUE, ConsumerSettings(**told))
        info = OwnerInfo(app="app", host=self.store.host, pid=1, supervisor_pid=1)
        self.owner = await self.store.register_owner(info)
        return self

    def draft(self, **parts: Any) -> Draft:
        return Draft(**({"id": self.ids.new(), "queue": QUEUE, "body": b"1", "headers": HEADERS} | parts))

    async def send(self, **parts: Any) -> MessageId:
        [sent] = await self.store.append([self.draft(**parts)])
        return sent.id

    async def take_new(self) -> Lease:
        """Of a job that is sent now."""
        await self.send()
        return await self.take()

    async def take(self) -> Lease:
        request = ClaimRequest(queue=QUEUE, owner=self.owner, limit=1)
        [lease] = (await self.store.claim(request)).leases
        return lease

    def record(self, lease: Lease, state: JobState, **parts: Any) -> JobRecord:
        now = self.clock.now_ms()
        record = JobRecord(
            id=lease.id, name="mail", queue=QUEUE, state=state, enqueued_at=lease.sent_at, started_at=now, ended_at=now,
            attempts=lease.attempts, worker="here:1", expires_at=now + RECORD_MS,
        )  # fmt: skip
        return msgspec.structs.replace(record, **parts)

    async def settle(self, lease: Lease, action: Action, state: JobState, **parts: Any) -> None:
        delay = parts.pop("delay_ms", None)
        outcome = self.record(lease, state, **parts)
        settlement = Settlement(lease.seq, lease.claim, action, delay, None, outcome.error, outcome=outcome)
        await self.store.settle(self.owner, [settlement])

    async def find(self, id: MessageId) -> JobFound:
        [found] = await self.store.jobs.find([id])
        return found

    async def state(self, id: MessageId) -> JobState:
        return (await self.find(id)).state(self.clock.now_ms())


@pytest.fixture
async def desk(store: Store, clock: ManualClock) -> Desk:
    return await Desk(store, clock).open()


@pytest.mark.anyio
class TestJobs:
    async def test_a_job_is_queued_then_running_then_what_its_outcome_says(self, desk: Desk) -> None:
        id = await desk.send()
        assert await desk.state(id) is JobState.QUEUED
        lease = await desk.take()
        assert await desk.state(id) is JobState.RUNNING
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED, result=b'{"ok":true}', result_until=9)
        found = await desk.find(id)
        assert await desk.state(id) is JobState.SUCCEEDED
        assert found.message is None
        assert found.record == desk.record(lease, JobState.SUCCEEDED, result=b'{"ok":true}', result_until=9)

    async def test_a_delayed_one_is_scheduled(self, desk: Desk) -> None:
        id = await desk.send(delay_ms=1_000)
        assert await desk.state(id) is JobState.SCHEDULED
        await desk.clock.advance(1)
        assert await desk.state(id) is JobState.QUEUED

    async def test_many_end_in_one_settle(self, desk: Desk) -> None:
        ids = [await desk.send() for _ in range(5)]
        leases = [await desk.take() for _ in ids]
        settlements = [
            Settlement(each.seq, each.claim, outcome=desk.record(each, JobState.SUCCEEDED)) for each in leases
        ]
        plain = await desk.send(headers=None)
        last = await desk.take()
        await desk.store.settle(desk.owner, [*settlements, Settlement(last.seq, last.claim)])
        assert [await desk.state(id) for id in ids] == [JobState.SUCCEEDED] * 5
        assert await desk.store.jobs.find([plain]) == []

    async def test_a_message_that_carries_no_job_is_none(self, desk: Desk) -> None:
        id = await desk.send(headers=None)
        assert await desk.store.jobs.find([id, MessageId(b"x" * 16)]) == []

    async def test_a_failed_attempt_is_kept_and_retried(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        await desk.settle(lease, Action.RETRY, JobState.RETRYING, error="no", fingerprint="f", delay_ms=1_000)
        assert await desk.state(id) is JobState.RETRYING
        [attempt] = await desk.store.jobs.attempts(id, limit=9)
        assert (attempt.attempt, attempt.state, attempt.error) == (1, JobState.RETRYING, "no")
        await desk.clock.advance(1)
        await desk.settle(await desk.take(), Action.ACK, JobState.SUCCEEDED)
        assert await desk.state(id) is JobState.SUCCEEDED
        assert len(await desk.store.jobs.attempts(id, limit=9)) == 1

    async def test_spent_retries_are_death_whatever_the_worker_thought(self, desk: Desk) -> None:
        id = await desk.send(max_retries=0)
        await desk.settle(await desk.take(), Action.RETRY, JobState.RETRYING, error="no", fingerprint="f")
        assert await desk.state(id) is JobState.DEAD
        found = await desk.find(id)
        assert found.message is not None and found.message.dead is not None and found.queue == QUEUE
        [attempt] = await desk.store.jobs.attempts(id, limit=9)
        assert attempt.state is JobState.DEAD

    async def test_a_rejection_is_failure_and_a_redrive_another_life(self, desk: Desk) -> None:
        id = await desk.send()
        await desk.settle(await desk.take(), Action.REJECT, JobState.FAILED, error="never")
        assert await desk.state(id) is JobState.FAILED
        assert await desk.store.redrive("a-dlq") == 1
        assert await desk.state(id) is JobState.QUEUED
        await desk.settle(await desk.take(), Action.ACK, JobState.SUCCEEDED)
        assert await desk.state(id) is JobState.SUCCEEDED

    async def test_without_a_dead_letter_queue_the_record_remains(self, store: Store, clock: ManualClock) -> None:
        desk = await Desk(store, clock).open(dead_letter_queue=None)
        id = await desk.send()
        await desk.settle(await desk.take(), Action.REJECT, JobState.FAILED, error="never")
        found = await desk.find(id)
        assert found.message is None and found.record is not None and found.record.error == "never"

    @pytest.mark.parametrize("ending", [Ending.LOST, Ending.CRASHED, Ending.TIMED_OUT])
    async def test_the_death_of_a_worker_is_an_attempt_of_the_job(self, desk: Desk, ending: Ending) -> None:
        id = await desk.send()
        lease = await desk.take()
        evidence = Evidence(ending=ending, started=frozenset({lease.seq}), culprit=lease.seq, detail="killed")
        await desk.store.reap_owner(desk.owner, evidence)
        assert await desk.state(id) is JobState.RETRYING
        [attempt] = await desk.store.jobs.attempts(id, limit=9)
        assert (attempt.attempt, attempt.state, attempt.error) == (1, JobState.RETRYING, "killed")

    async def test_one_that_expired_is_dead(self, desk: Desk) -> None:
        id = await desk.send(expires_in_ms=1_000)
        await desk.clock.advance(2)
        request = ClaimRequest(queue=QUEUE, owner=desk.owner, limit=1)
        assert (await desk.store.claim(request)).leases == []
        assert await desk.state(id) is JobState.DEAD
        found = await desk.find(id)
        assert found.record is not None and found.record.error == "expired"

    async def test_records_go_when_their_time_is_over(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED, expires_at=desk.clock.now_ms() + 1_000)
        await desk.clock.advance(0.5)
        await desk.store.sweep()
        assert await desk.state(id) is JobState.SUCCEEDED
        await desk.clock.advance(1)
        assert (await desk.store.sweep()).jobs == 1
        assert await desk.store.jobs.find([id]) == []


@pytest.mark.anyio
class TestJobControl:
    async def test_one_that_waits_is_taken_out(self, desk: Desk) -> None:
        id = await desk.send(delay_ms=60_000)
        found = await desk.store.jobs.cancel(id)
        assert found is not None and found.state(desk.clock.now_ms()) is JobState.CANCELLED
        assert found.message is None
        assert (await desk.store.metrics(QUEUE)).backlog_messages == 0
        assert await desk.store.jobs.cancel(MessageId(b"x" * 16)) is None

    async def test_one_that_is_final_stays_as_it_is(self, desk: Desk) -> None:
        id = await desk.send()
        await desk.settle(await desk.take(), Action.ACK, JobState.SUCCEEDED)
        found = await desk.store.jobs.cancel(id)
        assert found is not None and found.state(desk.clock.now_ms()) is JobState.SUCCEEDED

    async def test_one_that_runs_hears_of_it_at_its_next_beat(self, desk: Desk) -> None:
        id, other = await desk.send(), await desk.send()
        first, second = await desk.take(), await desk.take()
        await desk.clock.advance(1)
        running = [desk.record(each, JobState.RUNNING, ended_at=None) for each in (first, second)]
        assert list(await desk.store.jobs.beat(running)) == []
        assert (await desk.find(other)).record == running[1]
        await desk.store.jobs.cancel(id)
        assert await desk.state(id) is JobState.RUNNING
        assert list(await desk.store.jobs.beat(running)) == [id]
        await desk.settle(first, Action.ACK, JobState.CANCELLED)
        assert await desk.state(id) is JobState.CANCELLED

    @pytest.mark.parametrize("action", [Action.RETRY, Action.RELEASE, Action.CRASH, Action.REJECT])
    async def test_one_that_runs_is_not_tried_again(self, desk: Desk, action: Action) -> None:
        id = await desk.send()
        lease = await desk.take()
        await desk.store.jobs.cancel(id)
        await desk.store.settle(desk.owner, [Settlement(lease.seq, lease.claim, action, error="no")])
        assert await desk.state(id) is JobState.CANCELLED
        assert (await desk.find(id)).message is None
        assert (await desk.store.metrics(QUEUE)).backlog_messages == 0

    @pytest.mark.parametrize("ending", [Ending.LOST, Ending.CRASHED, Ending.EXITED])
    async def test_nor_is_it_after_its_worker_died(self, desk: Desk, ending: Ending) -> None:
        id = await desk.send()
        lease = await desk.take()
        await desk.store.jobs.cancel(id)
        evidence = Evidence(ending=ending, started=frozenset({lease.seq}), detail="killed")
        await desk.store.reap_owner(desk.owner, evidence)
        assert await desk.state(id) is JobState.CANCELLED
        assert (await desk.find(id)).message is None

    async def test_success_beats_a_cancel_that_came_too_late(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        await desk.store.jobs.cancel(id)
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED)
        assert await desk.state(id) is JobState.SUCCEEDED

    async def test_a_beat_says_nothing_of_an_attempt_that_has_ended(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        running = desk.record(lease, JobState.RUNNING, ended_at=None)
        await desk.clock.advance(1)
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED)
        await desk.store.jobs.beat([running])
        assert await desk.state(id) is JobState.SUCCEEDED

    async def test_replacing_cancels_the_one_that_waits(self, desk: Desk) -> None:
        first = await desk.send(dedupe="k", delay_ms=60_000)
        sent = await desk.store.jobs.replace(desk.draft(dedupe="k"))
        assert not sent.deduped and sent.id != first
        assert [await desk.state(id) for id in (first, sent.id)] == [JobState.CANCELLED, JobState.QUEUED]
        [again] = await desk.store.append([desk.draft(dedupe="k")])
        assert (again.id, again.deduped) == (sent.id, True)

    async def test_replacing_leaves_the_one_that_runs(self, desk: Desk) -> None:
        first = await desk.send(dedupe="k")
        lease = await desk.take()
        sent = await desk.store.jobs.replace(desk.draft(dedupe="k"))
        assert [await desk.state(id) for id in (first, sent.id)] == [JobState.RUNNING, JobState.QUEUED]
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED)
        [again] = await desk.store.append([desk.draft(dedupe="k")])
        assert (again.id, again.deduped) == (sent.id, True)

    async def test_of_many_that_replace_at_once_one_is_left(self, desk: Desk) -> None:
        sent = await asyncio.gather(*(desk.store.jobs.replace(desk.draft(dedupe="k")) for _ in range(8)))
        states = [await desk.state(each.id) for each in sent]
        assert sorted(states) == [JobState.CANCELLED] * 7 + [JobState.QUEUED]

    async def test_a_dedupe_key_lives_as_long_as_its_draft_says(self, desk: Desk) -> None:
        id = await desk.send(dedupe="k", dedupe_ms=10_000)
        await desk.settle(await desk.take(), Action.ACK, JobState.SUCCEEDED)
        await desk.clock.advance(9)
        assert await desk.send(dedupe="k", dedupe_ms=10_000) == id
        await desk.clock.advance(2)
        assert await desk.send(dedupe="k") != id


@pytest.mark.anyio
class TestJobLists:
    async def test_newest_first_page_by_page(self, desk: Desk) -> None:
        ids = [await desk.send() for _ in range(5)]
        await desk.settle(await desk.take(), Action.ACK, JobState.SUCCEEDED)
        await desk.send(headers=None)
        found: list[MessageId] = []
        asked = JobsAsked(limit=2)
        while True:
            page = await desk.store.jobs.look(asked)
            found += [each.id for each in page.jobs]
            if page.next_before is None:
                break
            asked = msgspec.structs.replace(asked, before=page.next_before)
        assert found == ids[::-1]

    async def test_by_state_name_queue_and_error(self, desk: Desk) -> None:
        first, second = await desk.send(), await desk.send(headers=b'{"job":"other"}')
        await desk.settle(await desk.take(), Action.REJECT, JobState.FAILED, error="no", fingerprint="f")

        async def look(**asked: Any) -> list[MessageId]:
            return [each.id for each in (await desk.store.jobs.look(JobsAsked(**asked))).jobs]

        assert await look(states=frozenset({JobState.FAILED})) == [first]
        assert await look(states=frozenset({JobState.QUEUED, JobState.FAILED})) == [second, first]
        assert await look(name="other") == [second]
        assert await look(queue=QUEUE) == [second, first]
        assert await look(queue="b") == []
        assert await look(fingerprint="f") == [first]

    async def test_errors_are_grouped_by_kind(self, desk: Desk) -> None:
        for kind in ("f", "g", "f"):
            await desk.send()
            await desk.settle(await desk.take(), Action.REJECT, JobState.FAILED, error=f"no {kind}", fingerprint=kind)
        groups = await desk.store.jobs.errors(name="mail", limit=9)
        assert [(each.fingerprint, each.jobs, each.error) for each in groups] == [("f", 2, "no f"), ("g", 1, "no g")]
        assert await desk.store.jobs.errors(name="other", limit=9) == []

    async def test_obstacles_are_what_stands_in_the_way(self, store: Store, clock: ManualClock) -> None:
        desk = await Desk(store, clock).open(max_concurrency=1, ordered=True)
        await desk.send(key="k")
        await desk.send(priority=9)
        id = await desk.send(key="k")
        request = ClaimRequest(queue=QUEUE, owner=desk.owner, limit=2, calls=1)
        assert len((await store.claim(request)).leases) == 1
        found = await store.jobs.obstacles(id)
        assert (found.slots_held, found.throttled_until) == (1, 0)
        assert found.ahead >= 1


@pytest.mark.anyio
class TestPuttingsOff:
    async def test_one_that_was_put_off_says_why(self, desk: Desk, clock: ManualClock) -> None:
        id = await desk.send()
        error = "snoozed: closed"
        await desk.settle(await desk.take(), Action.RELEASE, JobState.RETRYING, delay_ms=5_000, error=error)
        assert await desk.state(id) is JobState.SCHEDULED
        [attempt] = await desk.store.jobs.attempts(id, limit=9)
        assert (attempt.state, attempt.attempt, attempt.error) == (JobState.SCHEDULED, 1, error)

    async def test_of_those_of_one_attempt_the_last_is_kept(self, desk: Desk, clock: ManualClock) -> None:
        id = await desk.send()
        for _ in range(3):
            await desk.settle(await desk.take(), Action.RELEASE, JobState.RETRYING, delay_ms=1_000, error="snoozed")
            await clock.advance(1)
        last = clock.now_ms() - 1_000
        await desk.settle(await desk.take(), Action.RETRY, JobState.RETRYING, error="broken")
        await desk.settle(await desk.take(), Action.RELEASE, JobState.RETRYING, delay_ms=1_000, error="snoozed")
        found = await desk.store.jobs.attempts(id, limit=9)
        expected = [(JobState.SCHEDULED, 1), (JobState.RETRYING, 1), (JobState.SCHEDULED, 2)]
        assert [(each.state, each.attempt) for each in found] == expected
        assert found[0].ended_at == last

    async def test_a_cancel_meets_one_that_is_put_off(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        await desk.store.jobs.cancel(id)
        await desk.settle(lease, Action.RELEASE, JobState.RETRYING, delay_ms=1_000, error="snoozed")
        assert await desk.state(id) is JobState.CANCELLED
        assert await desk.store.peek(QUEUE, limit=9) == []
