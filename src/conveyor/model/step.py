"""What a job has got done within itself: its steps, and the events that were sent to it. Kept as long as the job."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from conveyor.model.duration import DAY_MS

STEP_NAME_CHARS_MAX: Final = 200
STEP_BYTES_MAX: Final = 1_000_000
"""JSON of one step's result, or of one event."""
STEPS_MAX: Final = 10_000
"""Of one job, with its sleeps and waits."""
STEPS_BYTES_MAX: Final = 64_000_000
"""Results of one job's steps in all: an attempt reads them at once."""
EVENTS_MAX: Final = 1_000
"""Of one job."""
PARK_MS_MAX: Final = 365 * DAY_MS
"""How long a job may sleep, or wait for an event."""


class StepKind(StrEnum):
    """Each has names of its own."""

    STEP = "step"
    """A function that has run, and what it returned."""
    SLEEP = "sleep"
    """Until a moment."""
    WAIT = "wait"
    """For the event of its name, until a moment."""


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step. Times are milliseconds of the store's clock."""

    kind: StepKind
    name: str
    attempt: int
    """Of the job, when it began."""
    began_at: int
    ended_at: int | None = None
    """A step is kept when it ends, a wait ends without its event; a sleep ends by itself, at `until`."""
    until: int | None = None
    value: bytes | None = None
    """What a step returned, as JSON."""


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was sent to a job. Of two with one name the first counts."""

    name: str
    payload: bytes
    """JSON."""
    sent_at: int
