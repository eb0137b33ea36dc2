"""What a database must promise of the steps within jobs, and of the events that are sent to them.

The rules of `conveyor.store.protocol` hold here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from conveyor.model.ids import MessageId
from conveyor.model.step import JobEvent, StepKind, StepRecord
from conveyor.store.jobs import JobFound


class Holder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An attempt that writes steps: the lease that it stands on, and what is known of its job."""

    owner: int
    seq: int
    claim: int
    id: MessageId
    name: str
    queue: str
    enqueued_at: int
    attempts: int


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All steps and events of a job, in the order in which they began and were sent."""

    steps: Sequence[StepRecord]
    events: Sequence[JobEvent]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event."""

    job: JobFound | None
    is_kept: bool = False
    """False: the job is not there or has ended, or there are too many of them."""


class StepStore(Protocol):
    """Steps and events. That an event finds a job which waits for it is between `send` and `settle`: whichever commits
    last sees the other, and makes the job ready."""

    async def read(self, id: MessageId) -> Kept:
        """Both empty for a job that is not there."""
        ...

    async def write(self, holder: Holder, step: StepRecord, *, is_first: bool) -> JobEvent | None:
        """Keep a step. A wait whose event is there is not kept: the event comes back. `is_first` of an attempt sees to
        it that the job's record outlives it. `LeaseLostError` unless the holder has the job still."""
        ...

    async def send(self, id: MessageId, name: str, payload: bytes) -> Told:
        """Keep an event, unless one of its name is there, and make the job ready if it was put off to wait for it."""
        ...


def open_steps(kept: Kept, now: int) -> list[StepRecord]:
    """Those that a job sleeps or waits for still, the next to end first."""
    names = {each.name for each in kept.events}
    found = [
        each
        for each in kept.steps
        if each.until is not None and each.ended_at is None and each.until > now
        if each.kind is StepKind.SLEEP or each.name not in names
    ]
    return sorted(found, key=lambda each: each.until or 0)
