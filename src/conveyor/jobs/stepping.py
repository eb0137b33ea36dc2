"""A job's steps from outside: shown, and told what they wait for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from conveyor.jobs.kept import check_step_name, place_of, write_value
from conveyor.model.ids import MessageId
from conveyor.model.job import FINAL
from conveyor.model.job_errors import JobEventRefusedError, JobNotFoundError
from conveyor.model.step import EVENTS_MAX, StepKind, StepRecord
from conveyor.queue.sealing import NO_KEYS, Sealer
from conveyor.store.protocol import Store
from conveyor.store.steps import Kept

NOTHING_KEPT: Final = Kept(steps=(), events=())


class StepState(StrEnum):
    """How a step stands."""

    DONE = "done"
    """It is over: no attempt runs, sleeps or waits for it again."""
    SLEEPING = "sleeping"
    WAITING = "waiting"
    RECEIVED = "received"
    """Its event is there."""
    TIMED_OUT = "timed_out"
    """Its event did not come in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInfo:
    """A step of a job: a function that has run, a sleep, or a wait for an event."""

    kind: StepKind
    name: str
    state: StepState
    attempt: int
    """Of the job, when it began."""
    began_at: datetime
    ended_at: datetime | None
    until: datetime | None
    """How long it sleeps or waits."""
    size_bytes: int | None
    """Of its result, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventInfo:
    """An event that was sent to a job."""

    name: str
    sent_at: datetime
    size_bytes: int
    """Of its payload, as JSON."""


async def send_event(store: Store, id: MessageId, name: str, payload: object, sealer: Sealer = NO_KEYS) -> None:
    """`JobStepError` for a name or payload that cannot be kept, `JobNotFoundError`, `JobEventRefusedError`."""
    check_step_name("event", name)
    written = write_value("event", name, payload)
    if sealer.patterns:
        for found in await store.jobs.find([id]):
            written = sealer.keep(found.queue, place_of("event", id, name), written)
    told = await store.steps.send(id, name, written)
    if told.job is None:
        raise JobNotFoundError(id.hex())
    if not told.is_kept:
        state = told.job.state(store.clock.now_ms())
        problem = f"it is {state}" if state in FINAL else f"it has got {EVENTS_MAX:,} already"
        raise JobEventRefusedError(name, id.hex(), problem)


def show_steps(kept: Kept, now: int) -> tuple[StepInfo, ...]:
    came = {each.name: each.sent_at for each in kept.events}
    return tuple(_show(each, came, now) for each in kept.steps)


def show_events(kept: Kept) -> tuple[EventInfo, ...]:
    return tuple(
        EventInfo(name=each.name, sent_at=_moment(each.sent_at), size_bytes=len(each.payload)) for each in kept.events
    )


def _show(step: StepRecord, came: dict[str, int], now: int) -> StepInfo:
    state, ended_at = _stands(step, came, now)
    return StepInfo(
        kind=step.kind, name=step.name, state=state, attempt=step.attempt, began_at=_moment(step.began_at),
        ended_at=None if ended_at is None else _moment(ended_at),
        until=None if step.until is None else _moment(step.until),
        size_bytes=None if step.value is None else len(step.value),
    )  # fmt: skip


def _stands(step: StepRecord, came: dict[str, int], now: int) -> tuple[StepState, int | None]:
    if step.kind is StepKind.STEP:
        return StepState.DONE, step.ended_at
    if step.kind is StepKind.SLEEP:
        is_over = step.until is not None and step.until <= now
        return (StepState.DONE, step.until) if is_over else (StepState.SLEEPING, None)
    if step.ended_at is not None:
        return StepState.TIMED_OUT, step.ended_at
    if step.name in came:
        return StepState.RECEIVED, came[step.name]
    return StepState.WAITING, None


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
