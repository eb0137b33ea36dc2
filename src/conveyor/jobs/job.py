"""One job: how it stands, what came of it, and a hand on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeAlias, TypeVar

from conveyor.audit.act import acting
from conveyor.jobs.declared import Declared
from conveyor.jobs.explain import explain
from conveyor.jobs.following import JobEvent, JobLog, JobProgress, follow, read_logs, read_output, show_progress
from conveyor.jobs.stepping import NOTHING_KEPT, EventInfo, StepInfo, send_event, show_events, show_steps
from conveyor.jobs.waiting import Waiting
from conveyor.model.duration import DAY_MS, Duration, read_duration_ms
from conveyor.model.ids import MessageId, read_id
from conveyor.model.job import FINAL, VERSION_HEADER, JobAttempt, JobState
from conveyor.model.job_errors import (
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobNotRetriableError,
    JobResultExpiredError,
    JobTimeoutError,
)
from conveyor.model.message import ContentType, Peeked
from conveyor.queue.encoding import BodyReader, encode_json
from conveyor.queue.sealing import NO_KEYS, Sealer
from conveyor.store.jobs import JobFound, read_headers
from conveyor.store.protocol import Store
from conveyor.store.steps import Kept
from conveyor.store.witness import about

R_co = TypeVar("R_co", covariant=True)

TIMELINE_MAX: Final = 1_000
_WAIT_MS_MAX: Final = 366 * DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A moment in a job's life."""

    at: datetime
    state: JobState
    attempt: int | None = None
    worker: str | None = None
    """Host and process."""
    duration_s: float | None = None
    """Of the attempt that ended."""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """A job as the store knows it now."""

    id: str
    name: str
    queue: str
    state: JobState
    attempts: int
    enqueued_at: datetime
    next_at: datetime | None
    """When it starts, or is tried again; None where that is not set."""
    started_at: datetime | None
    """The last attempt; known once it has run for a second, or is over."""
    ended_at: datetime | None
    worker: str | None
    error: str | None
    """The last one."""
    fingerprint: str | None
    """The same for errors of one kind."""
    cancel_requested: bool
    progress: JobProgress | None
    """What it said last; None also in lists, which do not look."""
    timeline: tuple[Transition, ...]
    steps: tuple[StepInfo, ...] = ()
    """What it has done within itself, in the order in which it began."""
    events: tuple[EventInfo, ...] = ()
    """What was sent to it."""


class Job(Generic[R_co]):
    """A job that was enqueued; its result is an `R`."""

    __slots__ = ("_declared", "_reader", "_store", "_waiting", "deduped", "id", "name", "queue")

    def __init__(
        self, store: Store, waiting: Waiting, reader: BodyReader, id: str, name: str, queue: str, *,
        deduped: bool = False, declared: Declared | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._waiting = waiting
        self._reader = reader
        self._declared = declared
        self.id = id
        """32 hex digits."""
        self.name = name
        self.queue = queue
        self.deduped = deduped
        """It was there already, with the same unique key: nothing was added."""

    async def state(self) -> JobState:
        """How it stands now. `JobNotFoundError`."""
        found = await self._find()
        return found.state(self._store.clock.now_ms())

    async def info(self) -> JobInfo:
        """All that is known of it, its timeline included. `JobNotFoundError`."""
        return await job_info(self._store, self._key)

    async def result(self, timeout: Duration | None = None) -> R_co:  # noqa: ASYNC109  # no cancel scope knows durations
        """Wait for its end, and return what its function returned.

        `JobFailedError` if it failed for good, `JobCancelledError`, `JobResultExpiredError`, `JobNotFoundError`;
        `JobTimeoutError` if it has not ended after `timeout`, which leaves it as it is. Without one it waits for ever;
        `StoreClosedError` if the app closes.
        """
        wait_ms = None if timeout is None else read_duration_ms(timeout, name="timeout", most_ms=_WAIT_MS_MAX)
        found = await self._waiting.wait(self._store, self._key, wait_ms)
        if found is None:
            raise JobTimeoutError(self.name, self.id, (wait_ms or 0) / 1000)
        value: R_co = self._read(found)
        return value

    def follow(self, *, after: int = 0) -> AsyncGenerator[JobEvent, None]:
        """What it has said after this number, what it says from now on, and at last a `JobEnd`. `JobNotFoundError`."""
        return follow(self._store, self._key, after=after)

    async def logs(self) -> list[JobLog]:
        """The lines of its log that are kept, oldest first. `JobNotFoundError`."""
        return await read_logs(self._store, self._key)

    async def output(self) -> str | bytes:
        """What its last attempt to write anything has written so far: text, if it wrote only text.
        `JobNotFoundError`."""
        return await read_output(self._store, self._key)

    async def cancel(self) -> JobState:
        """End it: one that waits is taken out, one that runs is told within a second or two, and is not tried again.
        How it stands afterwards: `running` until it has heard. One that is final stays as it is."""
        async with acting(self._store, "job.cancel"):
            found = await self._store.jobs.cancel(self._key)
        if found is None:
            raise JobNotFoundError(self.id)
        return found.state(self._store.clock.now_ms())

    async def retry(self, payload: object = None) -> None:
        """Try one again that failed for good, from its dead letter, and with another payload if one is given.
        `JobNotRetriableError`; `InvalidMessageError` or `BodyDecodeError` for what is no payload of this job."""
        edit = None if payload is None else edit_of(payload, self._declared)
        async with acting(self._store, "job.retry"):
            await retry_job(self._store, self._key, edit, self._reader.sealer)

    async def send_event(self, name: str, payload: Any = None) -> None:
        """Tell it what its `context.wait_for_event(name)` waits for, now, before or later: JSON values, a dataclass, a
        msgspec.Struct or a pydantic model. Of two with one name the first counts. `JobEventRefusedError` if it has
        ended, `JobNotFoundError`."""
        await send_event(self._store, self._key, name, payload, self._reader.sealer)

    async def explain(self) -> str:
        """In words: why is it not running? Or what became of it. `JobNotFoundError`."""
        return (await explain(self._store, self._key)).text

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.name!r}>"

    @property
    def _key(self) -> MessageId:
        return MessageId(bytes.fromhex(self.id))

    async def _find(self) -> JobFound:
        return await find_job(self._store, self._key)

    def _read(self, found: JobFound) -> Any:
        now, record = self._store.clock.now_ms(), found.record
        state = found.state(now)
        if state is JobState.CANCELLED:
            raise JobCancelledError(self.name, self.id)
        if state is not JobState.SUCCEEDED or record is None:
            error = record.error if record is not None else None
            raise JobFailedError(self.name, self.id, state, error or (found.message and _last_error(found)) or None)
        if record.result is None:
            return None
        if record.result_until is not None and record.result_until <= now:
            raise JobResultExpiredError(self.name, self.id)
        result = self._reader.sealer.open_kept(record.queue, f"result/{self.id}", record.result)
        return self._reader.read(result, ContentType.JSON)


def _last_error(found: JobFound) -> str | None:
    dead = None if found.message is None else found.message.dead
    return None if dead is None else dead.last_error or dead.reason


def read_job_id(text: str) -> MessageId:
    """`JobNotFoundError` for what is no id."""
    found = read_id(text)
    if found is None:
        raise JobNotFoundError(text)
    return found


async def find_job(store: Store, id: MessageId) -> JobFound:
    """`JobNotFoundError`."""
    found = await store.jobs.find([id])
    if not found:
        raise JobNotFoundError(id.hex())
    return found[0]


Edit: TypeAlias = tuple[bytes, int | None]
"""A payload as it is kept, and its version."""


def edit_of(payload: object, declared: Declared | None) -> Edit:
    """`InvalidMessageError`, `BodyDecodeError`."""
    body = encode_json(payload)
    if declared is None:
        return body, None
    declared.payload.read(body, ContentType.JSON)
    return body, declared.version


async def _edit(store: Store, message: Peeked, edit: Edit, sealer: Sealer) -> Peeked:
    body, version = edit
    body = sealer.seal_edit(message, body, ContentType.JSON)[0]
    headers = read_headers(message.headers)
    if version is not None:
        headers = headers | {VERSION_HEADER: version}
    return await store.edit_message(message, body=body, content_type=ContentType.JSON, headers=encode_json(headers))


async def retry_job(store: Store, id: MessageId, edit: Edit | None = None, sealer: Sealer = NO_KEYS) -> None:
    """`JobNotFoundError`, `JobNotRetriableError`; `VersionConflictError` if somebody else edits it just now."""
    found = await find_job(store, id)
    message = found.message
    is_sent = 0
    if message is not None and message.dead is not None:
        with about("job", id.hex()):
            if edit is not None:
                message = await _edit(store, message, edit, sealer)
            is_sent = await store.redrive(message.queue, seqs=[message.seq])
    if not is_sent:
        raise JobNotRetriableError(id.hex(), found.state(store.clock.now_ms()).value)


async def job_info(store: Store, id: MessageId) -> JobInfo:
    """`JobNotFoundError`."""
    found = await find_job(store, id)
    attempts = await store.jobs.attempts(id, limit=TIMELINE_MAX)
    kept, said = await store.steps.read(id), await store.reports.find(id)
    return show_job(found, store.clock.now_ms(), attempts, kept, show_progress(said))


def show_job(
    found: JobFound,
    now: int,
    attempts: Sequence[JobAttempt] = (),
    kept: Kept = NOTHING_KEPT,
    progress: JobProgress | None = None,
) -> JobInfo:
    """As users see it; without `attempts` its timeline lacks those that failed, without `kept` it has no steps."""
    message, record, state = found.message, found.record, found.state(now)
    failed = list(attempts)
    enqueued_at = record.enqueued_at if record is not None else message.sent_at if message is not None else now
    is_waiting = message is not None and message.dead is None and not message.leased
    started_at = record.started_at if record is not None and record.started_at else None
    return JobInfo(
        id=found.id.hex(),
        name=found.name,
        queue=found.queue,
        state=state,
        attempts=message.attempts if message is not None and message.dead is None else record.attempts if record else 0,
        enqueued_at=_moment(enqueued_at),
        next_at=_moment(message.ready_at) if is_waiting and message is not None and message.ready_at > now else None,
        started_at=None if started_at is None else _moment(started_at),
        ended_at=None if record is None or record.ended_at is None else _moment(record.ended_at),
        worker=None if record is None else record.worker or None,
        error=(record.error if record is not None else None) or _last_error(found),
        fingerprint=None if record is None else record.fingerprint,
        cancel_requested=record is not None and record.cancel_at is not None and state not in FINAL,
        progress=progress,
        timeline=tuple(_timeline(found, state, enqueued_at, failed)),
        steps=show_steps(kept, now),
        events=show_events(kept),
    )


def _timeline(found: JobFound, state: JobState, enqueued_at: int, failed: list[JobAttempt]) -> list[Transition]:
    message, record = found.message, found.record
    is_scheduled = message is not None and state is JobState.SCHEDULED
    first = JobState.SCHEDULED if is_scheduled else JobState.QUEUED
    steps = [Transition(at=_moment(enqueued_at), state=first)]
    for each in failed:
        if each.ended_at > each.started_at or each.worker:
            steps.append(_began(each.started_at, each.attempt, each.worker))
        steps.append(_ended(each.started_at, each.ended_at, each.state, each.attempt, each.worker, each.error))
    if record is None:
        return steps
    is_told = bool(failed) and failed[-1].ended_at == record.ended_at
    if record.ended_at is None and record.started_at and state is JobState.RUNNING:
        steps.append(_began(record.started_at, record.attempts, record.worker))
    elif record.ended_at is not None and not is_told and record.state in FINAL:
        if record.worker:
            steps.append(_began(record.started_at, record.attempts, record.worker))
        steps.append(
            _ended(record.started_at, record.ended_at, record.state, record.attempts, record.worker, record.error)
        )
    return steps


def _began(at: int, attempt: int, worker: str) -> Transition:
    return Transition(at=_moment(at), state=JobState.RUNNING, attempt=attempt, worker=worker or None)


def _ended(started_at: int, at: int, state: JobState, attempt: int, worker: str, error: str | None) -> Transition:
    duration_s = (at - started_at) / 1000 if worker else None
    return Transition(
        at=_moment(at), state=state, attempt=attempt or None, worker=worker or None, duration_s=duration_s, error=error
    )


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
