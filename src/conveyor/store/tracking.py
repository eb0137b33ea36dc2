"""What a database must promise of the work whose state and history are kept: jobs, alarms, deliveries.

The rules of `conveyor.store.protocol` hold here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from conveyor.model.ids import MessageId
from conveyor.model.job import ErrorGroup, JobAttempt, JobRecord
from conveyor.model.message import Draft, Sent
from conveyor.store.jobs import JobFound, JobPage, JobsAsked, Obstacles
from conveyor.store.records import Alarm, Delivery


class AlarmStore(Protocol):
    """A1: alarms. Each has one message, delayed until it is due, whose id is the alarm's generation."""

    async def set_alarm(self, name: str, due_at: int, message: Draft, *, was: MessageId | None = None) -> Alarm:
        """Send `message`, to be ready at `due_at`, in place of the alarm's present one; with `was` only if that is its
        generation still. A run that has begun ends by itself. `AlarmTakenError` for an alarm of another queue,
        `VersionConflictError`, `QueueNotFoundError`, `QueueFullError`."""
        ...

    async def get_alarm(self, name: str) -> Alarm | None: ...

    async def list_alarms(self, *, limit: int, after: str | None = None, only_parked: bool = False) -> list[Alarm]:
        """By name, in the order of its UTF-8 bytes."""
        ...

    async def cancel_alarm(self, name: str) -> bool:
        """Whether there was one. Its message is gone too, unless it is running."""
        ...

    async def start_alarm(self, name: str, message_id: MessageId) -> Alarm | None:
        """The alarm, if this is its generation; after a `set_alarm` has returned, no earlier one starts."""
        ...

    async def finish_alarm(self, name: str, message_id: MessageId, *, error: str | None) -> bool:
        """A run went well, and the alarm is gone, or it failed, and says why; False, and nothing is written, unless
        this is its generation still."""
        ...


class DeliveryStore(Protocol):
    """The log of what goes to others, one row with one message."""

    async def open_deliveries(self, opened: Sequence[tuple[Delivery, Draft]]) -> None:
        """Each with the message that carries it, all or none; one that is there is carried anew, unless the queue knows
        its message by its dedupe key: then it is left as it is.
        `QueueNotFoundError`, `QueueFullError`."""
        ...

    async def write_delivery(self, delivery: Delivery) -> bool:
        """Its state and body; False, and nothing is written, unless `message_id` carries it still."""
        ...

    async def get_delivery(self, delivery: MessageId) -> Delivery | None: ...

    async def list_deliveries(
        self, *, endpoint: str | None = None, state: str | None = None, limit: int, before: MessageId | None = None
    ) -> list[Delivery]:
        """Newest first."""
        ...


class JobStore(Protocol):
    """What is kept of jobs. Their endings are written by `settle`."""

    async def find(self, ids: Sequence[MessageId]) -> list[JobFound]:
        """Those that are there, in no order."""
        ...

    async def look(self, asked: JobsAsked) -> JobPage:
        """Newest first. A page may hold fewer than were asked for, and still not be the last."""
        ...

    async def attempts(self, id: MessageId, *, limit: int) -> Sequence[JobAttempt]:
        """Those that did not succeed, oldest first."""
        ...

    async def errors(self, *, name: str | None, limit: int) -> Sequence[ErrorGroup]:
        """Errors of jobs that have not succeeded, by kind, the most frequent first."""
        ...

    async def beat(self, running: Sequence[JobRecord]) -> Sequence[MessageId]:
        """Says of attempts that they run; those whose jobs are to end."""
        ...

    async def cancel(self, id: MessageId) -> JobFound | None:
        """One that waits is taken out. One that runs is to end: `beat` says so, and it is not tried again."""
        ...

    async def replace(self, draft: Draft) -> Sent:
        """Send in the place of the job that has the draft's dedupe key: that is cancelled if it waits, and goes on if
        it runs. The errors of `append`."""
        ...

    async def obstacles(self, id: MessageId) -> Obstacles:
        """What may keep it from being taken now."""
        ...
