"""Runs a job's function for a message that carries the job, and makes of its end what the store keeps."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from conveyor.jobs.beats import Attempt, Beats, Home
from conveyor.jobs.context import JobContext
from conveyor.jobs.declared import Declared
from conveyor.jobs.ends import deadline_of, meet_deadline, say_late
from conveyor.jobs.policy import fingerprint, mark
from conveyor.jobs.reports import Reports
from conveyor.jobs.steps import Parked, Steps
from conveyor.model.errors import BodyTooLargeError, HandlerTimeoutError, InvalidMessageError
from conveyor.model.job import RECORD_MS, RESULT_BYTES_MAX, VERSION_HEADER, JobRecord, JobState
from conveyor.model.job_errors import JobCancelledError, JobEventTimeoutError, JobStepError
from conveyor.model.message import Lease
from conveyor.model.step import StepKind
from conveyor.model.verdict import Action, DeadReason, Judged, RateLimited, Reject, Retry, Settlement, Snooze
from conveyor.queue.delivery import Message
from conveyor.queue.encoding import encode_json
from conveyor.queue.outcome import Chance, show_error
from conveyor.store.jobs import dead_state, job_name

T = TypeVar("T")

_VERDICTS: Final = (Retry, Reject, RateLimited, Snooze)


class Runner:
    """One job's function, as a worker calls it."""

    def __init__(self, declared: Declared, home: Home, beats: Beats, reports: Reports, chance: Chance) -> None:
        self.declared = declared
        self._home = home
        self._beats = beats
        self._reports = reports
        self._chance = chance
        self._worker = (0, "")

    async def run_async(self, message: Message[Any]) -> object:
        """For a function that is async."""
        attempt = self._begin(message, asyncio.current_task())
        if attempt.context.is_cancelled:
            return self._too_late(attempt)
        try:
            returned = await self.declared.function(*self._arguments(message, attempt.context))
        except asyncio.CancelledError:
            if attempt.is_told:
                return self._judged(attempt, Action.ACK, JobState.CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001  # whatever a job raises is judged by its policy
            return self._failed(attempt, error)
        except BaseException as error:  # noqa: BLE001  # a step that puts the job off raises no `Exception`
            return self._left(attempt, error)
        finally:
            self._beats.end(attempt)
            if attempt.context.voice is not None:
                await self._reports.finish(attempt.context.voice)
        return self._ended(attempt, returned)

    def run_sync(self, message: Message[Any]) -> object:
        """For a plain function, in a thread or a child."""
        attempt = self._begin(message, None)
        if attempt.context.is_cancelled:
            return self._too_late(attempt)
        try:
            returned = self.declared.function(*self._arguments(message, attempt.context))
        except Exception as error:  # noqa: BLE001  # as above
            return self._failed(attempt, error)
        except BaseException as error:  # noqa: BLE001  # as above
            return self._left(attempt, error)
        finally:
            self._beats.end(attempt)
            if attempt.context.voice is not None:
                self._reports.finish_from_thread(attempt.context.voice)
        return self._ended(attempt, returned)

    def _begin(self, message: Message[Any], task: asyncio.Task[Any] | None) -> Attempt:
        lease = message._lease  # noqa: SLF001  # a runner is to a job what a worker is to a message
        now, deadline = self.now_ms(), deadline_of(lease)
        until = now + self.declared.timeout_ms
        context = JobContext(
            self.declared.name, message, started_at_ms=now, worker=self.worker, now_ms=self.now_ms,
            until_ms=until if deadline is None else min(until, deadline), deadline_ms=deadline, reports=self._reports,
            desk=self,
        )  # fmt: skip
        attempt = Attempt(self.declared, context, lease.id, lease.sent_at, task)
        self._beats.begin(attempt)
        return attempt

    def now_ms(self) -> int:
        """The store's."""
        return self._home.store.at(self.declared.queue).clock.now_ms()

    def _too_late(self, attempt: Attempt) -> Judged:
        """Its deadline passed before this attempt could begin."""
        self._beats.end(attempt)
        return Judged(action=Action.RETRY, delay_ms=0)

    @property
    def is_async(self) -> bool:
        return self.declared.is_async

    def open_steps(self, message: Message[Any]) -> Steps:
        store = self._home.store.at(message.queue)
        return Steps(store.steps, store.clock, message, self.declared.name, self._home.sealer)

    async def count_returns(self, lease: Lease) -> int:
        """How often a job of this queue, whatever its name, was given back since it came here, but for its own
        sleeps and waits."""
        store = self._home.store.at(lease.queue)
        found, kept = await store.jobs.obstacles(lease.id), await store.steps.read(lease.id)
        return max(0, found.releases - sum(each.kind is not StepKind.STEP for each in kept.steps))

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._home.run_sync(coroutine)

    @property
    def worker(self) -> str:
        """This host and process; children are forked."""
        pid = os.getpid()
        if self._worker[0] != pid:
            self._worker = pid, f"{platform.node()}:{pid}"
        return self._worker[1]

    def _arguments(self, message: Message[Any], context: JobContext) -> tuple[Any, ...]:
        declared = self.declared
        payload = message.body
        if declared.upcasts:
            payload = declared.read_payload(payload, message.headers.get(VERSION_HEADER, 1))
        return (payload, context) if declared.takes_context else (payload,)

    def _ended(self, attempt: Attempt, returned: object) -> object:
        if isinstance(returned, _VERDICTS):
            return returned
        if returned is None:
            return self._judged(attempt, Action.ACK, JobState.SUCCEEDED)
        try:
            result = encode_json(returned)
            if len(result) > RESULT_BYTES_MAX:
                raise BodyTooLargeError("a job's result", len(result), RESULT_BYTES_MAX)
        except (InvalidMessageError, BodyTooLargeError) as error:  # another attempt would end as this one did
            reason = "its result cannot be kept"
            return self._judged(attempt, Action.REJECT, JobState.FAILED, error=error, reason=reason)
        result = self._home.sealer.keep(self.declared.queue, f"result/{attempt.id.hex()}", result)
        return self._judged(attempt, Action.ACK, JobState.SUCCEEDED, result=result)

    def _failed(self, attempt: Attempt, error: Exception) -> object:
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, _VERDICTS):
            return error
        if isinstance(error, JobCancelledError) and attempt.context.is_told:
            return self._judged(attempt, Action.ACK, JobState.CANCELLED)
        if isinstance(error, (JobStepError, JobEventTimeoutError)):  # every other attempt would end as this one did
            return self._judged(attempt, Action.REJECT, JobState.FAILED, error=error, reason="permanent error")
        try:
            delay_ms = self.declared.policy.delay_ms(attempt.context.attempt, error, self._chance())
        except Exception as problem:  # noqa: BLE001  # a user's rule for errors may have errors of its own
            problem.__cause__ = error
            delay_ms = self.declared.policy.backoff.delay_ms(attempt.context.attempt, self._chance())
        if delay_ms is None:
            return self._judged(attempt, Action.REJECT, JobState.FAILED, error=error, reason="permanent error")
        if attempt.context.is_past_deadline(delay_ms):
            return self._judged(attempt, Action.REJECT, JobState.DEAD, error=error, reason=DeadReason.DEADLINE)
        reason = DeadReason.TIMEOUT if isinstance(error, HandlerTimeoutError) else None
        return self._judged(attempt, Action.RETRY, JobState.RETRYING, error=error, delay_ms=delay_ms, reason=reason)

    def _left(self, attempt: Attempt, error: BaseException) -> object:
        """A function that ended by what is no error: its job is put off by a step, unless a task beside has failed."""
        rest: BaseException | None = None if isinstance(error, Parked) else error
        if isinstance(error, BaseExceptionGroup):
            rest = error.split(Parked)[1]
        if isinstance(rest, Exception):
            return self._failed(attempt, rest)
        if rest is not None:
            raise error
        delay_ms, events = attempt.context.parking()
        return Judged(action=Action.RELEASE, delay_ms=delay_ms, parks=events)

    def _judged(
        self, attempt: Attempt, action: Action, state: JobState, *, result: bytes | None = None,
        error: Exception | None = None, reason: str | None = None, delay_ms: int | None = None,
    ) -> Judged:  # fmt: skip
        declared, now = self.declared, self._home.store.at(self.declared.queue).clock.now_ms()
        shown = None if error is None else show_error(error, attempt.context.lease)
        if reason == DeadReason.DEADLINE:
            shown = say_late(shown)
        until = None if result is None else now + declared.result_ms
        record = JobRecord(
            id=attempt.id, name=declared.name, queue=declared.queue, state=state, enqueued_at=attempt.enqueued_at,
            started_at=attempt.started_at, ended_at=now, attempts=attempt.context.attempt,
            worker=attempt.context.worker, result=result, result_until=until, error=shown,
            fingerprint=None if error is None else fingerprint(error),
            next_at=None if delay_ms is None else now + delay_ms, expires_at=max(until or 0, now + RECORD_MS),
        )  # fmt: skip
        return Judged(action=action, delay_ms=delay_ms, reason=reason, error=shown, outcome=record)

    def close(self, lease: Lease, settlement: Settlement, running_ms: int) -> Settlement:
        """With what is kept of an attempt of which its function said nothing that could be kept: it asked for another,
        ran for too long, or killed its child."""
        now = self.now_ms()
        settlement = meet_deadline(lease, settlement, now)
        if settlement.parks is not None:  # its steps say why, and until when
            return settlement
        is_done, is_released = settlement.action is Action.ACK, settlement.action is Action.RELEASE
        state = JobState.SUCCEEDED if is_done else JobState.RETRYING
        if settlement.action is Action.REJECT:
            state = dead_state(settlement.reason or DeadReason.REJECTED)
        error = _why_put_off(settlement) if is_released else settlement.error or settlement.reason
        record = JobRecord(
            id=lease.id, name=self.declared.name, queue=self.declared.queue, state=state, enqueued_at=lease.sent_at,
            started_at=now - running_ms, ended_at=now, attempts=lease.attempts, worker=self.worker,
            error=None if is_done else error,
            fingerprint=None if is_done or is_released or error is None else mark(error),
            next_at=now + (settlement.delay_ms or 0) if state is JobState.RETRYING else None,
            expires_at=now + RECORD_MS,
        )  # fmt: skip
        return replace(settlement, outcome=record)

    def put_off(self, lease: Lease, why: str, *, returns: int) -> Judged:
        """A job that this process does not know, or a newer payload than it knows: in a rolling deployment some other
        process does, or this one's successor will. `returns` is how often that was done before."""
        if returns >= UNKNOWN_RELEASES:
            return Judged(action=Action.REJECT, reason="unknown job", error=why)
        delay_ms = 1_000 * min(UNKNOWN_S_MAX, 2 ** min(returns, 6))
        now = self.now_ms()
        record = JobRecord(
            id=lease.id, name=job_name(lease.headers) or "", queue=lease.queue, state=JobState.RETRYING,
            enqueued_at=lease.sent_at, started_at=now, ended_at=now, attempts=lease.attempts, error=why,
            next_at=now + delay_ms, expires_at=now + RECORD_MS,
        )  # fmt: skip
        return Judged(action=Action.RELEASE, delay_ms=delay_ms, reason=why, outcome=record)


def _why_put_off(settlement: Settlement) -> str:
    word = "rate limited" if settlement.throttles or settlement.rests_key else "snoozed"
    return f"{word}: {settlement.reason}" if settlement.reason else word


UNKNOWN_RELEASES: Final = 20
"""How often a job is put off that no worker here knows: after 1, 2, 4, ... 60, 60, ... s, 15 min in all."""
UNKNOWN_S_MAX: Final = 60
