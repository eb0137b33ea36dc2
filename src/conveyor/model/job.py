"""A job's states, and what is kept of it. While its message lives, the message says how the job stands; what outlives
the message, or was said of an attempt, is a `JobRecord`, written in the commit of the settlement that it belongs to."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from conveyor.model.duration import DAY_MS
from conveyor.model.ids import MessageId

NAME_HEADER: Final = "job"
"""The header of a message that carries a job: the job's name."""
VERSION_HEADER: Final = "job_version"
"""The payload's version, where that is not 1."""
DEADLINE_HEADER: Final = "job_deadline"
"""How long after it was enqueued a job must have ended, in milliseconds."""
RESULT_BYTES_MAX: Final = 1_000_000
RESULT_MS_MAX: Final = 365 * DAY_MS
RECORD_MS: Final = 30 * DAY_MS
"""How long a record is kept after its last change, unless the job's result is to live longer."""


class JobState(StrEnum):
    """How a job stands."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    """It begins at a set time, or sleeps, or waits for an event, and no attempt has failed so far."""
    RUNNING = "running"
    """A worker has it."""
    RETRYING = "retrying"
    """An attempt has failed, and another follows."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It can never work: a permanent error, or a rejection."""
    CANCELLED = "cancelled"
    DEAD = "dead"
    """Its retries, its crash budget or its time are spent."""


FINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.DEAD})


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was last said of a job. Times are milliseconds of the store's clock."""

    id: MessageId
    name: str
    queue: str
    state: JobState
    enqueued_at: int
    started_at: int
    """Of the last attempt; for one that never began, when it ended."""
    ended_at: int | None
    """Of the last attempt; None while it runs."""
    attempts: int
    worker: str = ""
    """Host and process of the last attempt."""
    result: bytes | None = None
    """JSON."""
    result_until: int | None = None
    error: str | None = None
    fingerprint: str | None = None
    """The same for errors of one kind."""
    next_at: int | None = None
    """When it is tried again."""
    cancel_at: int | None = None
    """When somebody asked a running one to end."""
    expires_at: int = 0
    """Until when this is kept."""


class JobAttempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An attempt that did not succeed."""

    attempt: int
    state: JobState
    """What the job was after it; SCHEDULED: it was put off, and the attempt was not counted."""
    started_at: int
    ended_at: int
    worker: str
    error: str | None
    fingerprint: str | None
    next_at: int | None


class ErrorGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Failed jobs whose last errors are of one kind."""

    fingerprint: str
    name: str
    """The job's."""
    error: str
    """Of the latest."""
    jobs: int
    last_at: int
