"""What every part of the memory store stands on: tables, time, wakes, and the ways in which a message dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from conveyor.model.alert import write_alert
from conveyor.model.clock import Clock
from conveyor.model.errors import QueueNotFoundError, StoreClosedError
from conveyor.model.group import MemberState
from conveyor.model.ids import IdSource, MessageId
from conveyor.model.job import JobAttempt, JobRecord, JobState
from conveyor.model.message import CRASH_BUDGET, ERROR_CHARS_MAX, ContentType, DeadLetter, Priority
from conveyor.model.settings import ConsumerSettings, QueueSettings, check_name
from conveyor.model.verdict import DeadReason
from conveyor.store.groups import MemberEnd
from conveyor.store.jobs import JobFound, cancelled, dead_state, job_name, unended
from conveyor.store.memory.rows import Message, Queue, Tables
from conveyor.store.protocol import Wake
from conveyor.store.records import PULL_OWNER

_NO_CONSUMER = ConsumerSettings()
_GONE = MemberEnd(MemberState.CANCELLED)
_FAILED = MemberEnd(MemberState.FAILED)


class Floor:
    """Tables and the steps that several parts take."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ids = IdSource(clock)
        self._everything = Tables()
        self._is_open = False
        self._wakes: dict[object, Wake] = {}

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def _tables(self) -> Tables:
        if not self._is_open:
            raise StoreClosedError
        return self._everything

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        ticket = object()
        self._wakes[ticket] = wake

        def end() -> None:
            self._wakes.pop(ticket, None)

        return end

    def _wake(self, *queues: str) -> None:
        if queues:
            for wake in self._wakes.values():
                asyncio.get_running_loop().call_soon(wake, frozenset(queues))

    def _now(self) -> int:
        return self._clock.now_ms()

    def _queue(self, name: str) -> Queue:
        queue = self._tables.queues.get(name)
        if queue is None:
            now = self._called_now(name)
            raise QueueNotFoundError(name, now=None if now == name else now)
        return queue

    def _called_now(self, name: str) -> str:
        """What a worker calls a queue may be its name of before."""
        queues = self._tables.queues
        return name if name in queues else next((each.name for each in queues.values() if name in each.former), name)

    def _forget_former(self, name: str) -> None:
        """Somebody takes the name: what still comes under it is that one's."""
        for queue in self._tables.queues.values():
            queue.former.discard(name)

    def _consumer(self, name: str) -> ConsumerSettings:
        """The queue's consumer, or the defaults if it has none."""
        return self._queue(name).consumer or _NO_CONSUMER

    def _make_queue(self, name: str, settings: QueueSettings) -> Queue:
        check_name("queue", name)
        settings.check()
        self._forget_former(name)
        now = self._now()
        version = next(self._tables.versions)
        queue = Queue(name=name, settings=settings, version=version, created_at=now, modified_at=now)
        self._tables.queues[name] = queue
        return queue

    def _ensure_queue(self, name: str) -> Queue:
        return self._tables.queues.get(name) or self._make_queue(name, QueueSettings())

    def _remove(self, message: Message, end: MemberEnd = _GONE) -> None:
        """DONE or GONE."""
        del self._tables.messages[message.seq]
        self._let_go_of_dedupe(message)
        self._end_member(message.id, end)

    def _end_member(self, id: MessageId, end: MemberEnd) -> None:
        """A message is over; if it is a group's, it counts."""
        raise NotImplementedError

    def _let_go_of_dedupe(self, message: Message) -> None:
        for dedupe in self._tables.dedupes.values():
            if dedupe.seq == message.seq:
                dedupe.seq = None

    def _release(self, message: Message) -> None:
        """T8, to its old place; out, if it carries a job that was cancelled meanwhile."""
        if self._is_cancelled(message):
            return
        message.releases += 1
        message.end_lease()
        self._wake(message.queue)

    def _is_spent(self, message: Message) -> bool:
        retries = message.max_retries
        return message.attempts > (self._consumer(message.queue).max_retries if retries is None else retries)

    def _fail(
        self, message: Message, reason: str, error: str | None, *, ready_at: int, outcome: JobRecord | None = None
    ) -> bool:
        """T4 and T5: another try, or T6; whether it died."""
        if self._is_spent(message):
            self._kill(message, reason, error, outcome)
            return True
        if self._is_cancelled(message):
            return False
        self._note_job(message, JobState.RETRYING, error, outcome)
        message.end_lease()
        message.ready_at = ready_at
        self._wake(message.queue)
        return False

    def _crash(self, message: Message, error: str | None, outcome: JobRecord | None = None) -> bool:
        """T5: it ran alone when its worker died; whether that was once too often. From now on it runs alone."""
        message.crashes += 1
        message.crash_suspect = True
        if message.crashes >= CRASH_BUDGET:
            self._kill(message, DeadReason.CRASHES, error, outcome)
            return True
        return self._fail(message, DeadReason.RETRIES, error, ready_at=message.ready_at, outcome=outcome)

    def _kill(self, message: Message, reason: str, error: str | None, outcome: JobRecord | None = None) -> None:
        """T6: to the dead letter queue, if there is one, with an alert, if it is wanted."""
        if self._is_cancelled(message):
            return
        self._note_job(message, dead_state(reason), error or reason, outcome)
        consumer = self._consumer(message.queue)
        origin, now = message.queue, self._now()
        error = error[:ERROR_CHARS_MAX] if error else None
        if consumer.alert_queue is not None:
            self._alert(consumer.alert_queue, message, consumer.dead_letter_queue, reason, error)
        if consumer.dead_letter_queue is None:
            self._remove(message, _FAILED)
        else:
            self._ensure_queue(consumer.dead_letter_queue)
            self._let_go_of_dedupe(message)
            dead = DeadLetter(origin_queue=origin, reason=reason, dead_at=now, last_error=error)
            message.start_anew(consumer.dead_letter_queue, now, dead)
            self._end_member(message.id, _FAILED)
            self._wake(message.queue)
        self._wake(origin)

    def _find_job(self, id: MessageId) -> JobFound | None:
        record = self._tables.jobs.get(id)
        message = next((each for each in self._tables.messages.values() if each.id == id), None)
        if record is None and (message is None or job_name(message.headers) is None):
            return None
        return JobFound(message=None if message is None else message.peek(), record=record)

    def _note_job(self, message: Message, state: JobState, error: str | None, outcome: JobRecord | None) -> None:
        """An attempt that did not succeed: as its worker tells it, or as nobody does."""
        if not self._consumer(message.queue).tracks_jobs or job_name(message.headers) is None:
            return
        found = self._find_job(message.id)
        assert found is not None, "its message is there"
        if outcome is None:
            outcome = unended(found, self._now(), state=state, error=error)
        elif outcome.state is JobState.RETRYING and state is not outcome.state:
            outcome = replace(outcome, state=state, next_at=None)
        self._put_job(outcome)
        self._tables.attempts.setdefault(message.id, []).append(_attempt_of(outcome, outcome.state))

    def _note_put_off(self, message: Message, outcome: JobRecord) -> None:
        """Of those that were put off, and not counted, only the last is kept."""
        counted = outcome.attempts
        kept = self._tables.attempts.get(message.id, [])
        kept = [each for each in kept if (each.attempt, each.state) != (counted, JobState.SCHEDULED)]
        self._tables.attempts[message.id] = [*kept, _attempt_of(outcome, JobState.SCHEDULED)]
        present = self._tables.jobs.get(outcome.id)
        wish = None if present is None else present.cancel_at
        self._put_job(replace(outcome, cancel_at=wish))

    def _put_job(self, record: JobRecord) -> None:
        """What was cancelled stays so."""
        present = self._tables.jobs.get(record.id)
        if present is None or present.state is not JobState.CANCELLED:
            self._tables.jobs[record.id] = replace(record, queue=self._called_now(record.queue))

    def _keep_job(self, message: Message, expires_at: int) -> None:
        """A record for the job of a step or an event, which is kept as long as that."""
        present = self._tables.jobs.get(message.id)
        record = present or JobRecord(
            id=message.id, name=job_name(message.headers) or "", queue=message.queue, state=JobState.RUNNING,
            enqueued_at=message.sent_at, started_at=0, ended_at=None, attempts=message.attempts,
        )  # fmt: skip
        self._tables.jobs[message.id] = replace(record, expires_at=max(record.expires_at, expires_at))

    def _is_cancelled(self, message: Message) -> bool:
        """Whether somebody wanted the job of a message to end that would be tried again; then it is out."""
        record = self._tables.jobs.get(message.id)
        if record is None or record.cancel_at is None:
            return False
        found = self._find_job(message.id)
        assert found is not None, "it has a record"
        self._put_job(cancelled(found, self._now()))
        self._remove(message)
        self._wake(message.queue)
        return True

    def _alert(self, queue: str, message: Message, dlq: str | None, reason: str, error: str | None) -> None:
        settings = self._ensure_queue(queue).settings
        body = write_alert(
            message.queue, dlq, message.id, reason=reason, error=error, attempts=message.attempts, dead_at=self._now(),
            headers=message.headers,
        )  # fmt: skip
        self._add(queue, body, delay_ms=settings.delivery_delay_ms)
        self._wake(queue)

    def _add(self, queue: str, body: bytes, *, delay_ms: int) -> None:
        """A message of the store's own."""
        seq, now = next(self._tables.seqs), self._now()
        self._tables.messages[seq] = Message(
            seq=seq,
            id=self._ids.new(),
            queue=queue,
            body=body,
            content_type=ContentType.JSON,
            headers=None,
            priority=Priority.NORMAL,
            key=None,
            sent_at=now,
            ready_at=now + delay_ms,
            first_ready_at=now + delay_ms,
            expires_at=None,
            max_retries=None,
        )

    def _return_pulled(self, messages: list[Message]) -> int:
        """T5 for pulled leases whose time is over; how many there were."""
        now = self._now()
        over = [m for m in messages if m.owner == PULL_OWNER and m.lease_until is not None and m.lease_until <= now]
        for message in over:
            self._fail(message, DeadReason.LOST, "the lease ran out", ready_at=message.ready_at)
        return len(over)


def _attempt_of(outcome: JobRecord, state: JobState) -> JobAttempt:
    return JobAttempt(
        attempt=outcome.attempts, state=state, started_at=outcome.started_at, ended_at=outcome.ended_at or 0,
        worker=outcome.worker, error=outcome.error, fingerprint=outcome.fingerprint, next_at=outcome.next_at,
    )  # fmt: skip
