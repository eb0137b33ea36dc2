"""What a job's function may know of the attempt that it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from conveyor.jobs.reports import Reports
from conveyor.jobs.voice import Voice
from conveyor.model.errors import InvalidSettingError
from conveyor.model.job_errors import JobCancelledError
from conveyor.model.report import LEVELS
from conveyor.queue.delivery import Message


class JobContext:
    """One attempt of a job, for its function: its second argument, if it asks for one."""

    __slots__ = ("_message", "_reports", "is_cancelled", "name", "started_at_ms", "voice", "worker")

    is_cancelled: bool
    """Somebody wants it to end. Coroutines are cancelled by themselves, and child processes killed; a function in a
    thread has to look here."""

    voice: Voice | None
    """Once it has said something."""

    def __init__(
        self, name: str, message: Message[Any], *, started_at_ms: int, worker: str, reports: Reports
    ) -> None:
        self.name = name
        self.worker = worker
        """Host and process."""
        self.started_at_ms = started_at_ms
        self.is_cancelled = False
        self._message = message
        self._reports = reports
        self.voice = None

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
    def is_lost(self) -> bool:
        """Somebody else has the job by now: what is left of this attempt will not count."""
        return self._message.lease_lost

    def progress(self, fraction: float, note: str = "") -> None:
        """How far it is, from 0 to 1: `job.info().progress`. Only the last one is kept."""
        if (voice := self._speak()) is not None:
            voice.progress(fraction, note)

    def log(self, text: str, level: Literal["debug", "info", "warning", "error"] = "info") -> None:
        """A line of the job's log: `job.logs()`. `InvalidSettingError` for another level."""
        if level not in LEVELS:
            raise InvalidSettingError("level", level, "is none", hint=f"one of {', '.join(LEVELS)}")
        if (voice := self._speak()) is not None:
            voice.log(str(text), level)

    def write(self, chunk: str | bytes) -> None:
        """A piece of the job's output, as it comes: `job.output()`."""
        if (voice := self._speak()) is not None:
            voice.write(chunk)

    def _speak(self) -> Voice | None:
        if self.is_lost:
            return None
        if self.voice is None:
            self.voice = self._reports.voice_of(self.name, self._message, self.started_at_ms, self.worker)
        return self.voice

    def raise_if_cancelled(self) -> None:
        """`JobCancelledError` if somebody wants it to end: the attempt is then over, and the job cancelled."""
        if self.is_cancelled:
            raise JobCancelledError(self.name, self.id)

    def __repr__(self) -> str:
        return f"<JobContext of {self.name!r} {self.id}, attempt {self.attempt}>"
