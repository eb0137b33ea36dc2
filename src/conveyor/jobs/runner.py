"""Runs a job's function for a message that carries the job, and makes of its end what the store keeps."""

from __future__ import annotations

import asyncio
import os
import platform
from typing import Any, Final

from conveyor.jobs.beats import Attempt, Beats, Home
from conveyor.jobs.context import JobContext
from conveyor.jobs.declared import Declared
from conveyor.jobs.policy import fingerprint, mark
from conveyor.jobs.reports import Reports
from conveyor.model.errors import BodyTooLargeError, InvalidMessageError
from conveyor.model.job import RECORD_MS, RESULT_BYTES_MAX, VERSION_HEADER, JobRecord, JobState
from conveyor.model.job_errors import JobCancelledError
from conveyor.model.message import Lease
from conveyor.model.verdict import Action, Judged, RateLimited, Reject, Retry, Settlement, Snooze
from conveyor.queue.delivery import Message
from conveyor.queue.encoding import encode_json
from conveyor.queue.outcome import Chance, show_error

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
        try:
            returned = await self.declared.function(*self._arguments(message, attempt.context))
        except asyncio.CancelledError:
            if attempt.is_told:
                return self._judged(attempt, Action.ACK, JobState.CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001  # whatever a job raises is judged by its policy
            return self._failed(attempt, error)
        finally:
            self._beats.end(attempt)
            if attempt.context.voice is not None:
                await self._reports.finish(attempt.context.voice)
        return self._ended(attempt, returned)

    def run_sync(self, message: Message[Any]) -> object:
        """For a plain function, in a thread or a child."""
        attempt = self._begin(message, None)
        try:
            returned = self.declared.function(*self._arguments(message, attempt.context))
        except Exception as error:  # noqa: BLE001
            return self._failed(attempt, error)
        finally:
            self._beats.end(attempt)
            if attempt.context.voice is not None:
                self._reports.finish_from_thread(attempt.context.voice)
        return self._ended(attempt, returned)

    def _begin(self, message: Message[Any], task: asyncio.Task[Any] | None) -> Attempt:
        lease = message._lease  # noqa: SLF001  # a runner is to a job what a worker is to a message
        now = self._home.store.at(lease.queue).clock.now_ms()
        context = JobContext(self.declared.name, message, started_at_ms=now, worker=self.worker, reports=self._reports)
        attempt = Attempt(self.declared, context, lease.id, lease.sent_at, task)
        self._beats.begin(attempt)
        return attempt

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
        return self._judged(attempt, Action.ACK, JobState.SUCCEEDED, result=result)

    def _failed(self, attempt: Attempt, error: Exception) -> object:
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, _VERDICTS):
            return error
        if isinstance(error, JobCancelledError) and attempt.context.is_cancelled:
            return self._judged(attempt, Action.ACK, JobState.CANCELLED)
        try:
            delay_ms = self.declared.policy.delay_ms(attempt.context.attempt, error, self._chance())
        except Exception as problem:  # noqa: BLE001  # a user's rule for errors may have errors of its own
            problem.__cause__ = error
            delay_ms = self.declared.policy.backoff.delay_ms(attempt.context.attempt, self._chance())
        if delay_ms is None:
            return self._judged(attempt, Action.REJECT, JobState.FAILED, error=error, reason="permanent error")
        return self._judged(attempt, Action.RETRY, JobState.RETRYING, error=error, delay_ms=delay_ms)

    def _judged(
        self, attempt: Attempt, action: Action, state: JobState, *, result: bytes | None = None,
        error: Exception | None = None, reason: str | None = None, delay_ms: int | None = None,
    ) -> Judged:  # fmt: skip
        declared, now = self.declared, self._home.store.at(self.declared.queue).clock.now_ms()
        shown = None if error is None else show_error(error)
        until = None if result is None else now + declared.result_ms
        record = JobRecord(
            id=attempt.id, name=declared.name, queue=declared.queue, state=state, enqueued_at=attempt.enqueued_at,
            started_at=attempt.started_at, ended_at=now, attempts=attempt.context.attempt,
            worker=attempt.context.worker, result=result, result_until=until, error=shown,
            fingerprint=None if error is None else fingerprint(error),
            next_at=None if delay_ms is None else now + delay_ms, expires_at=max(until or 0, now + RECORD_MS),
        )  # fmt: skip
        return Judged(action=action, delay_ms=delay_ms, reason=reason, error=shown, outcome=record)

    def close(self, lease: Lease, settlement: Settlement, running_ms: int) -> JobRecord:
        """What is kept of an attempt of which its function said nothing that could be kept: it asked for another, ran
        for too long, or killed its child."""
        now = self._home.store.at(lease.queue).clock.now_ms()
        is_done, is_final = settlement.action is Action.ACK, settlement.action is Action.REJECT
        state = JobState.SUCCEEDED if is_done else JobState.FAILED if is_final else JobState.RETRYING
        error = settlement.error or settlement.reason
        return JobRecord(
            id=lease.id, name=self.declared.name, queue=self.declared.queue, state=state, enqueued_at=lease.sent_at,
            started_at=now - running_ms, ended_at=now, attempts=lease.attempts, worker=self.worker,
            error=None if is_done else error, fingerprint=None if is_done or error is None else mark(error),
            next_at=now + (settlement.delay_ms or 0) if state is JobState.RETRYING else None,
            expires_at=now + RECORD_MS,
        )  # fmt: skip


UNKNOWN_RELEASES: Final = 20
"""How often a job is put off that no worker here knows: after 1, 2, 4, ... 60, 60, ... s, 15 min in all."""
UNKNOWN_S_MAX: Final = 60


def put_off(lease: Lease, why: str) -> Judged:
    """A job that this process does not know, or a newer payload than it knows: in a rolling deployment some other
    process does, or this one's successor will."""
    if lease.releases >= UNKNOWN_RELEASES:
        return Judged(action=Action.REJECT, reason="unknown job", error=why)
    delay_s = min(UNKNOWN_S_MAX, 2 ** min(lease.releases, 6))
    return Judged(action=Action.RELEASE, delay_ms=delay_s * 1000, reason=why)
