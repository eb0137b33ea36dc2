"""Jobs: listed, shown, explained, cancelled, tried again."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from conveyor.jobs.explain import explain
from conveyor.jobs.job import JobInfo, job_info, read_job_id, retry_job, show_job
from conveyor.jobs.stepping import StepState, send_event
from conveyor.model.ids import MessageId
from conveyor.model.job import JobState
from conveyor.model.job_errors import JobNotFoundError
from conveyor.model.step import STEP_BYTES_MAX, STEP_NAME_CHARS_MAX, StepKind
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import read_cursor, write_cursor
from conveyor.server.rest.shapes import Asked, Moment, Page, PageAsked, Told, moment
from conveyor.server.rights import Right
from conveyor.store.jobs import NEWEST, JobsAsked

_ERRORS_MAX: Final = 1_000
Name = Annotated[str, Meta(min_length=1, max_length=100)]


class JobsWanted(PageAsked, frozen=True, kw_only=True):
    """Which jobs to list."""

    name: Name | None = None
    queue: Name | None = None
    state: JobState | None = None
    error: Name | None = None
    """The fingerprint of their last error."""


class ErrorsWanted(Asked, frozen=True, kw_only=True):
    """Of which jobs."""

    name: Name | None = None


class TransitionShown(Told, frozen=True, kw_only=True):
    """A moment in a job's life."""

    at: Moment
    state: JobState
    attempt: int | None
    worker: str | None
    duration_s: float | None
    error: str | None


class StepShown(Told, frozen=True, kw_only=True):
    """What a job has done within itself: a function that has run, a sleep, or a wait for an event."""

    kind: StepKind
    name: str
    state: StepState
    attempt: int
    began_at: Moment
    ended_at: Moment | None
    until: Moment | None
    size_bytes: int | None


class EventShown(Told, frozen=True, kw_only=True):
    """What was sent to a job."""

    name: str
    sent_at: Moment
    size_bytes: int


class EventSent(Asked, frozen=True, kw_only=True):
    """What a job waits for, or will."""

    name: Annotated[str, Meta(min_length=1, max_length=STEP_NAME_CHARS_MAX)]
    payload: Any = None


class ProgressShown(Told, frozen=True, kw_only=True):
    """How far a job is."""

    fraction: float
    note: str
    at: Moment
    attempt: int


class JobShown(Told, frozen=True, kw_only=True):
    """A job as it stands. Lists leave the timeline's failed attempts, the progress, steps and events out."""

    id: str
    name: str
    queue: str
    state: JobState
    attempts: int
    enqueued_at: Moment
    next_at: Moment | None
    started_at: Moment | None
    ended_at: Moment | None
    worker: str | None
    error: str | None
    fingerprint: str | None
    cancel_requested: bool
    progress: ProgressShown | None
    timeline: list[TransitionShown]
    steps: list[StepShown]
    events: list[EventShown]


class ErrorShown(Told, frozen=True, kw_only=True):
    """Jobs that have not succeeded, whose last errors are of one kind."""

    fingerprint: str
    name: str
    error: str
    jobs: int
    last_at: Moment


class Reason(Told, frozen=True, kw_only=True):
    """Why a job is not running, or what became of it: a word, and a sentence."""

    id: str
    reason: str
    text: str


async def list_jobs(call: Call) -> Answer:
    """Jobs, newest first. A page may hold fewer than were asked for, and still have a next one."""
    asked = read_query(call, JobsWanted)
    cursor = read_cursor("jobs", asked.cursor, str)
    page = await call.store.jobs.look(
        JobsAsked(
            name=asked.name, queue=asked.queue, states=frozenset() if asked.state is None else frozenset({asked.state}),
            fingerprint=asked.error, before=NEWEST if cursor is None else read_job_id(cursor), limit=asked.limit,
        )
    )  # fmt: skip
    now = call.store.clock.now_ms()
    following = None if page.next_before is None else write_cursor("jobs", page.next_before.hex())
    return Answer.json(Page(items=[_show(show_job(each, now)) for each in page.jobs], next_cursor=following))


async def get_job(call: Call) -> Answer:
    """A job, and every step of its life."""
    return Answer.json(_show(await job_info(call.store, _id_of(call))))


async def explain_job(call: Call) -> Answer:
    """Why it is not running, or what became of it."""
    id = _id_of(call)
    found = await explain(call.store, id)
    return Answer.json(Reason(id=id.hex(), reason=found.word, text=found.text))


async def cancel_job(call: Call) -> Answer:
    """End a job: one that waits at once, one that runs within seconds, unless it succeeds before."""
    id = _id_of(call)
    if await call.store.jobs.cancel(id) is None:
        raise JobNotFoundError(id.hex())
    return await get_job(call)


async def retry_job_again(call: Call) -> Answer:
    """Try a job again that failed for good, from its dead letter."""
    await retry_job(call.store, _id_of(call))
    return await get_job(call)


async def send_job_event(call: Call) -> Answer:
    """Tell a job what its `wait_for_event` waits for, now, before or later. Of two with one name the first counts."""
    asked = call.decode(EventSent)
    await send_event(call.store, _id_of(call), asked.name, asked.payload)
    return Answer(204)


async def list_job_errors(call: Call) -> Answer:
    """Errors of jobs that have not succeeded, by kind, the most frequent first."""
    asked = read_query(call, ErrorsWanted)
    found = await call.store.jobs.errors(name=asked.name, limit=_ERRORS_MAX)
    items = [
        ErrorShown(
            fingerprint=each.fingerprint, name=each.name, error=each.error, jobs=each.jobs, last_at=moment(each.last_at)
        )
        for each in found
    ]
    return Answer.json(Page(items=items, next_cursor=None))


def _id_of(call: Call) -> MessageId:
    return read_job_id(call.path["job"])


def _show(info: JobInfo) -> JobShown:
    said = info.progress
    progress = None
    if said is not None:
        progress = ProgressShown(fraction=said.fraction, note=said.note, at=said.at, attempt=said.attempt)
    return JobShown(
        id=info.id, name=info.name, queue=info.queue, state=info.state, attempts=info.attempts,
        enqueued_at=info.enqueued_at, next_at=info.next_at, started_at=info.started_at, ended_at=info.ended_at,
        worker=info.worker, error=info.error, fingerprint=info.fingerprint, cancel_requested=info.cancel_requested,
        progress=progress,
        timeline=[
            TransitionShown(
                at=each.at, state=each.state, attempt=each.attempt, worker=each.worker, duration_s=each.duration_s,
                error=each.error,
            )
            for each in info.timeline
        ],
        steps=[
            StepShown(
                kind=each.kind, name=each.name, state=each.state, attempt=each.attempt, began_at=each.began_at,
                ended_at=each.ended_at, until=each.until, size_bytes=each.size_bytes,
            )
            for each in info.steps
        ],
        events=[
            EventShown(name=each.name, sent_at=each.sent_at, size_bytes=each.size_bytes) for each in info.events
        ],
    )  # fmt: skip


OPERATIONS: Final = (
    Operation(
        method="GET", path="/jobs", right=Right.READ, scope="store", handle=list_jobs, query=JobsWanted,
        gives=Page[JobShown],
    ),
    Operation(
        method="GET", path="/jobs/errors", right=Right.READ, scope="store", handle=list_job_errors, query=ErrorsWanted,
        gives=Page[ErrorShown],
    ),
    Operation(method="GET", path="/jobs/{job}", right=Right.READ, scope="store", handle=get_job, gives=JobShown),
    Operation(
        method="GET", path="/jobs/{job}/explain", right=Right.READ, scope="store", handle=explain_job, gives=Reason
    ),
    Operation(
        method="POST", path="/jobs/{job}/cancel", right=Right.MANAGE, scope="store", handle=cancel_job,
        action="job.cancel", gives=JobShown,
    ),
    Operation(
        method="POST", path="/jobs/{job}/retry", right=Right.MANAGE, scope="store", handle=retry_job_again,
        action="job.retry", gives=JobShown,
    ),
    Operation(
        method="POST", path="/jobs/{job}/events", right=Right.MANAGE, scope="store", handle=send_job_event,
        action="job.event", takes=EventSent, body_max=STEP_BYTES_MAX + 65_536,
    ),
)  # fmt: skip
