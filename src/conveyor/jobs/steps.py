"""The steps of one attempt: what the job has done already is read once, when first asked for; what it does now is kept
as it is done, as long as the attempt has its job still.

    step    kept? its result : run, keep, its result
    sleep   over? on         : keep when it ends, put the job off
    wait    event? its body  : keep until when, put the job off; over? `JobEventTimeoutError`
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn, Protocol, TypeVar

from msgspec.structs import replace

from conveyor.jobs.kept import check_step_name, place_of, read_value, reader_of, write_value
from conveyor.model.clock import Clock
from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import InvalidSettingError, LeaseLostError
from conveyor.model.job_errors import JobEventTimeoutError, JobStepError
from conveyor.model.step import (
    PARK_MS_MAX,
    STEPS_BYTES_MAX,
    STEPS_MAX,
    JobEvent,
    StepKind,
    StepRecord,
)
from conveyor.queue.delivery import Message
from conveyor.queue.encoding import BodyReader
from conveyor.queue.handler import is_async_function
from conveyor.queue.sealing import NO_KEYS, Sealer
from conveyor.store.steps import Holder, StepStore

T = TypeVar("T")

_WORDS: Final = {StepKind.STEP: "step", StepKind.SLEEP: "sleep", StepKind.WAIT: "event"}
ABSENT: Final = object()


class Parked(BaseException):
    """Ends a function whose job is put off. No `Exception`, so that `except Exception` lets it pass."""


class Desk(Protocol):
    """Where an attempt gets its steps from."""

    @property
    def is_async(self) -> bool:
        """Whether the job's function is."""
        ...

    def open_steps(self, message: Message[Any]) -> Steps: ...

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """From a thread that is not the event loop's."""
        ...


class Steps:
    """The steps of one attempt."""

    def __init__(
        self, store: StepStore, clock: Clock, message: Message[Any], name: str, sealer: Sealer = NO_KEYS
    ) -> None:
        lease, fence = message._lease, message._fence  # noqa: SLF001  # steps are written by the lease of their message
        if fence is None:
            raise InvalidSettingError("context", name, "has no steps here", hint="a worker, or `app.testing()`, has")
        self._store = store
        self._clock = clock
        self._sealer = sealer
        self._message = message
        self._attempt = message.attempts
        self._holder = Holder(
            owner=fence.owner, seq=lease.seq, claim=lease.claim, id=lease.id, name=name, queue=lease.queue,
            enqueued_at=lease.sent_at, attempts=message.attempts,
        )  # fmt: skip
        self._steps: dict[tuple[StepKind, str], StepRecord] = {}
        self._events: dict[str, JobEvent] = {}
        self._bytes = 0
        self._is_read = False
        self._has_written = False
        self._reading = asyncio.Lock()
        self._used: set[tuple[StepKind, str]] = set()
        self._parks: list[StepRecord] = []

    # What the function asks for

    async def step(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], wanted: Any
    ) -> Any:
        reader = reader_of(name, function, wanted)
        found = await self.look(name, reader)
        if found is not ABSENT:
            return found
        began_at = self._clock.now_ms()
        if is_async_function(function):
            value = await function(*args, **kwargs)
        else:
            value = await asyncio.to_thread(function, *args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
        return await self.keep(name, reader, began_at, value)

    async def look(self, name: str, reader: BodyReader) -> Any:
        """What the step returned; `ABSENT`: it is to run now. `JobStepError`, `LeaseLostError`."""
        kept = await self._find(StepKind.STEP, name)
        if kept is not None:
            return read_value("step", name, reader, self._opened("step", name, kept.value or b"null"))
        if self._message.lease_lost:
            raise LeaseLostError(self._message.id)
        return ABSENT

    async def keep(self, name: str, reader: BodyReader, began_at: int, value: object) -> Any:
        """Keep what the step returned; it comes back as another attempt will see it. `JobStepError`,
        `LeaseLostError`."""
        written = write_value("step", name, value)
        seen = read_value("step", name, reader, written)
        written = self._sealer.keep(self._holder.queue, place_of("step", self._holder.id, name), written)
        self._bytes += len(written)
        if self._bytes > STEPS_BYTES_MAX:
            problem = f"the results of all steps are more than {STEPS_BYTES_MAX:,} bytes"
            raise JobStepError("step", name, problem, hint="keep what is large in a bucket, and return its key")
        await self._write(
            StepRecord(
                kind=StepKind.STEP, name=name, attempt=self._attempt, began_at=began_at, ended_at=self.now(),
                value=written,
            )
        )  # fmt: skip
        return seen

    async def sleep(self, name: str, duration: Duration) -> None:
        sleep_ms = read_duration_ms(duration, name="duration", most_ms=PARK_MS_MAX)
        kept = await self._find(StepKind.SLEEP, name)
        if kept is None:
            kept = self._begin(StepKind.SLEEP, name, sleep_ms)
            await self._write(kept)
        if (kept.until or 0) > self.now():
            self._park(kept)

    async def wait(self, name: str, timeout: Duration, wanted: Any) -> Any:  # noqa: ASYNC109  # it outlives the process
        timeout_ms = read_duration_ms(timeout, name="timeout", most_ms=PARK_MS_MAX)
        reader = reader_of(name, None, wanted)
        kept = await self._find(StepKind.WAIT, name)
        if kept is not None and kept.ended_at is not None:
            raise _timed_out(kept)
        event = self._events.get(name)
        if event is None:
            wait = kept or self._begin(StepKind.WAIT, name, timeout_ms)
            is_over = (wait.until or 0) <= self.now()
            if is_over:
                wait = replace(wait, ended_at=self.now())
            if kept is None or is_over:
                event = await self._write(wait)
            if event is None:
                if is_over:
                    raise _timed_out(wait)
                self._park(wait)
        return read_value("event", name, reader, self._opened("event", name, event.payload))

    def _opened(self, what: str, name: str, kept: bytes) -> bytes:
        """`SealedBodyError`."""
        return self._sealer.open_kept(self._holder.queue, place_of(what, self._holder.id, name), kept)

    # What the runner asks for

    def parking(self) -> tuple[int, tuple[str, ...]]:
        """How many ms the job is put off, and the events that end that before."""
        delay_ms = min((each.until or 0) for each in self._parks) - self.now()
        return max(0, delay_ms), tuple(each.name for each in self._parks if each.kind is StepKind.WAIT)

    def now(self) -> int:
        return self._clock.now_ms()

    def _begin(self, kind: StepKind, name: str, duration_ms: int) -> StepRecord:
        now = self.now()
        return StepRecord(kind=kind, name=name, attempt=self._attempt, began_at=now, until=now + duration_ms)

    def _park(self, step: StepRecord) -> NoReturn:
        self._parks.append(step)
        raise Parked

    async def _find(self, kind: StepKind, name: str) -> StepRecord | None:
        """What was kept of it before. Its name is taken for this attempt."""
        word = _WORDS[kind]
        check_step_name(word, name)
        if (kind, name) in self._used:
            hint = f'give each a name of its own: `f"{name}-{{n}}"` in a loop'
            raise JobStepError(word, name, "is there twice in one attempt", hint=hint)
        self._used.add((kind, name))
        async with self._reading:
            if not self._is_read:
                await self._read()
        found = self._steps.get((kind, name))
        if found is None and len(self._steps) >= STEPS_MAX:
            raise JobStepError(word, name, f"a job has at most {STEPS_MAX:,} steps", hint="let each step do more")
        return found

    async def _read(self) -> None:
        kept = await self._store.read(self._holder.id)
        self._steps = {(each.kind, each.name): each for each in kept.steps}
        self._events = {each.name: each for each in kept.events}
        self._bytes = sum(len(each.value or b"") for each in kept.steps)
        self._is_read = True

    async def _write(self, step: StepRecord) -> JobEvent | None:
        try:
            event = await self._store.write(self._holder, step, is_first=not self._has_written)
        except LeaseLostError:
            self._message.lease_lost = True
            raise
        self._has_written = True
        if event is None:
            self._steps[step.kind, step.name] = step
        return event


def _timed_out(wait: StepRecord) -> JobEventTimeoutError:
    return JobEventTimeoutError(wait.name, ((wait.until or 0) - wait.began_at) / 1000)
