"""What a job's function may know of the attempt that it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Literal, ParamSpec, TypeVar, overload

from conveyor.jobs.blocking import BlockingSteps
from conveyor.jobs.reports import Reports
from conveyor.jobs.steps import Desk, Steps
from conveyor.jobs.voice import Voice
from conveyor.model.duration import Duration
from conveyor.model.errors import HandlerTimeoutError, InvalidSettingError
from conveyor.model.job_errors import JobCancelledError, JobStepError
from conveyor.model.message import Lease
from conveyor.model.report import LEVELS
from conveyor.queue.delivery import Message

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class JobContext:
    """One attempt of a job, for its function: its second argument, if it asks for one."""

    __slots__ = (
        "_deadline_ms", "_desk", "_message", "_now_ms", "_reports", "_steps", "_until_ms", "is_told", "name",
        "started_at_ms", "voice", "worker",
    )  # fmt: skip

    voice: Voice | None
    """Once it has said something."""

    def __init__(
        self, name: str, message: Message[Any], *, started_at_ms: int, worker: str, until_ms: int,
        deadline_ms: int | None, now_ms: Callable[[], int], reports: Reports, desk: Desk | None = None,
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
        self._desk = desk
        self._steps: Steps | None = None
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
    def redrives(self) -> int:
        """How often somebody has tried the job again after it had failed for good; `attempt` begins at 1 each time. A
        delivery after a crash is none."""
        return self._message.redrives

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
    def lease(self) -> Lease:
        """For the runner."""
        return self._message._lease  # noqa: SLF001  # as it came

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
        """`JobCancelledError` if somebody has cancelled it: the job is then cancelled. `HandlerTimeoutError` if its
        time is up: the attempt has then failed."""
        if self.is_told:
            raise JobCancelledError(self.name, self.id)
        if self.is_cancelled:
            raise HandlerTimeoutError(self.queue, (self._until_ms - self.started_at_ms) / 1000)

    # Durable steps: what has been done is kept, and a later attempt goes on behind it

    @overload
    def step(
        self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def step(
        self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def step(
        self, name: str, function: Callable[..., Any], /, *args: Any, type: type[T], **kwargs: Any
    ) -> Coroutine[Any, Any, T]: ...

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, type: Any = None, **kwargs: Any) -> Any:
        """`await context.step("download", download, url)`: run it, and keep what it returns; once it is kept, no
        attempt of this job runs it again.

        Async functions run on the event loop, others in a thread. What is returned has gone through JSON, at the first
        run as at later ones, and is read as `type`, else as the function is annotated to return. What it raises is
        raised here, and nothing is kept. `JobStepError` for a name that is there twice, and for what cannot be kept;
        `LeaseLostError` if somebody else has the job by now: then nothing was kept.
        """
        return self._awaited("step").step(name, function, args, kwargs, type)

    def sleep(self, name: str, duration: Duration) -> Coroutine[Any, Any, None]:
        """`await context.sleep("cool down", "10m")`: put the job off, up to 365 days. It holds no worker meanwhile, and
        spends no attempt: the function is left, and begins anew when the time is over."""
        return self._awaited("sleep").sleep(name, duration)

    @overload
    def wait_for_event(self, name: str, *, timeout: Duration = "1d") -> Coroutine[Any, Any, Any]: ...

    @overload
    def wait_for_event(self, name: str, *, timeout: Duration = "1d", type: type[T]) -> Coroutine[Any, Any, T]: ...

    def wait_for_event(self, name: str, *, timeout: Duration = "1d", type: Any = None) -> Coroutine[Any, Any, Any]:
        """What was sent by `job.send_event(name, payload)`, before or from now on, read as `type`. Until it is there
        the job is put off as by `sleep`. `JobEventTimeoutError` if it has not come after `timeout`."""
        return self._awaited("wait_for_event").wait(name, timeout, type)

    @property
    def blocking(self) -> BlockingSteps:
        """`step`, `sleep` and `wait_for_event` for functions that are not async."""
        return BlockingSteps(self._at_desk, self._open_steps())

    def parking(self) -> tuple[int, tuple[str, ...]]:
        """For how many ms its steps put the job off, and the events that end that before."""
        return self._open_steps().parking()

    def _awaited(self, verb: str) -> Steps:
        if not self._at_desk.is_async:
            hint = f"write `context.blocking.{verb}(...)`, without `await`"
            raise JobStepError(verb, self.name, "is awaited, and this job's function is not async", hint=hint)
        return self._open_steps()

    def _open_steps(self) -> Steps:
        if self._steps is None:
            self._steps = self._at_desk.open_steps(self._message)
        return self._steps

    @property
    def _at_desk(self) -> Desk:
        if self._desk is None:
            raise JobStepError("context", self.name, "no worker runs this", hint="a worker, or `app.testing()`, does")
        return self._desk

    def __repr__(self) -> str:
        return f"<JobContext of {self.name!r} {self.id}, attempt {self.attempt}>"
