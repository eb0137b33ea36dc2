"""A job that is a member of a group: before it is sent only its group knows of it."""

from __future__ import annotations

from typing import Final, TypeVar

from conveyor.jobs.job import Job
from conveyor.model.duration import DAY_MS, Duration, read_duration_ms
from conveyor.model.group import MemberState
from conveyor.model.job import JobState
from conveyor.model.job_errors import JobCancelledError, JobFailedError, JobNotFoundError, JobTimeoutError

R_co = TypeVar("R_co", covariant=True)

LOOK_S_FIRST: Final = 0.01
LOOK_S_MAX: Final = 0.25
_WAIT_MS_MAX: Final = 366 * DAY_MS
_STATES: Final = {
    MemberState.WAITING: JobState.SCHEDULED,
    MemberState.READY: JobState.SCHEDULED,
    MemberState.FAILED: JobState.FAILED,
    MemberState.CANCELLED: JobState.CANCELLED,
}


class MemberJob(Job[R_co]):
    """`Job`, of which there may be no message yet, or never."""

    __slots__ = ()

    async def state(self) -> JobState:
        """How it stands now: scheduled while it waits for those before it. `JobNotFoundError`."""
        return await self._unsent() or await super().state()

    async def result(self, timeout: Duration | None = None) -> R_co:  # noqa: ASYNC109  # no cancel scope knows durations
        """As `Job.result`; what was never sent, since its group has ended before, was cancelled."""
        clock = self._store.clock
        wait_ms = None if timeout is None else read_duration_ms(timeout, name="timeout", most_ms=_WAIT_MS_MAX)
        until = None if wait_ms is None else clock.monotonic() + wait_ms / 1000
        pause_s = LOOK_S_FIRST
        while (state := await self._unsent()) is not None:
            if state is JobState.CANCELLED:
                raise JobCancelledError(self.name, self.id)
            if state is JobState.FAILED:
                raise JobFailedError(self.name, self.id, state, "it cannot be sent: what it takes is too large")
            left_s = pause_s if until is None else until - clock.monotonic()
            if left_s <= 0:
                raise JobTimeoutError(self.name, self.id, (wait_ms or 0) / 1000)
            await clock.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, LOOK_S_MAX)
        return await super().result(None if until is None else max(0.0, until - clock.monotonic()))

    async def _unsent(self) -> JobState | None:
        """How it stands as a member of which there is no job; None: there is one."""
        if await self._store.jobs.find([self._key]):
            return None
        member = await self._store.groups.find_member(self._key)
        if member is not None and member.state in _STATES:
            return _STATES[member.state]
        if member is None:
            raise JobNotFoundError(self.id)
        return None
