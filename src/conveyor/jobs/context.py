"""What a job's function may know of the attempt that it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from conveyor.model.errors import HandlerTimeoutError
from conveyor.model.job_errors import JobCancelledError
from conveyor.queue.delivery import Message


class JobContext:
    """One attempt of a job, for its function: its second argument, if it asks for one."""

    __slots__ = ("_deadline_ms", "_message", "_now_ms", "_until_ms", "is_told", "name", "started_at_ms", "worker")

    def __init__(
        self, name: str, message: Message[Any], *, started_at_ms: int, worker: str, until_ms: int,
        deadline_ms: int | None, now_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self.name = name
        self.worker = worker
        """Host and process."""
        self.started_at_ms = started_at_ms
        self.is_told = False
        """Somebody has cancelled it."""
        self._until_ms = until_ms
        self._deadline_ms = deadline_ms
        self._now_ms = now_ms
        self._message = message

    @property
    def id(self) -> str:
        """The job's: 32 hex digits."""
        return self._message.id

    @property
    def idempotency_key(self) -> str:
        """The same at every attempt: hand it to services that know idempotency keys."""
        return self._message.idempotency_key

    @property
    def queue(self) -> str:
        return self._message.queue

    @property
    def attempt(self) -> int:
        """1 at first; snoozes and rate limits are not counted."""
        return self._message.attempts

    @property
    def key(self) -> str | None:
        return self._message.key

    @property
    def headers(self) -> dict[str, Any]:
        return self._message.headers

    @property
    def enqueued_at(self) -> datetime:
        return self._message.timestamp

    @property
    def started_at(self) -> datetime:
        return datetime.fromtimestamp(self.started_at_ms / 1000, UTC)

    @property
    def deadline(self) -> datetime | None:
        """By when the job must have ended, whatever its attempts; None: whenever."""
        return None if self._deadline_ms is None else datetime.fromtimestamp(self._deadline_ms / 1000, UTC)

    @property
    def time_left(self) -> float:
        """Seconds until this attempt is cut short by its timeout or the job's deadline; 0 when they are over."""
        return max(0, self._until_ms - self._now_ms()) / 1000

    @property
    def is_cancelled(self) -> bool:
        """It is to end: somebody has cancelled it, or its time is up. Coroutines are cancelled by themselves, and child
        processes killed; a function in a thread has to look here."""
        return self.is_told or self._now_ms() >= self._until_ms

    def is_past_deadline(self, delay_ms: int) -> bool:
        """Whether an attempt after so many milliseconds would come too late."""
        return self._deadline_ms is not None and self._now_ms() + delay_ms >= self._deadline_ms

    @property
    def is_lost(self) -> bool:
        """Somebody else has the job by now: what is left of this attempt will not count."""
        return self._message.lease_lost

    def raise_if_cancelled(self) -> None:
        """`JobCancelledError` if somebody has cancelled it: the job is then cancelled. `HandlerTimeoutError` if its
        time is up: the attempt has then failed."""
        if self.is_told:
            raise JobCancelledError(self.name, self.id)
        if self.is_cancelled:
            raise HandlerTimeoutError(self.queue, (self._until_ms - self.started_at_ms) / 1000)

    def __repr__(self) -> str:
        return f"<JobContext of {self.name!r} {self.id}, attempt {self.attempt}>"
