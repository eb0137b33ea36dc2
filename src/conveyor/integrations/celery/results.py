"""Celery's results from conveyor's jobs: what `AsyncResult` and `app.control.revoke` speak to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol

from celery import states
from celery.backends.base import BaseBackend
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError

from conveyor.app import Conveyor
from conveyor.integrations.celery.bridged import NotBridgedError
from conveyor.integrations.celery.running import unpack
from conveyor.integrations.foreign import read_error
from conveyor.jobs.job import Job, JobInfo
from conveyor.model.job import JobState
from conveyor.model.job_errors import JobEndedError, JobNotFoundError, JobResultExpiredError, JobTimeoutError

_STATES: Final = {
    JobState.QUEUED: states.PENDING,
    JobState.SCHEDULED: states.PENDING,
    JobState.RUNNING: states.STARTED,
    JobState.RETRYING: states.RETRY,
    JobState.SUCCEEDED: states.SUCCESS,
    JobState.FAILED: states.FAILURE,
    JobState.DEAD: states.FAILURE,
    JobState.CANCELLED: states.REVOKED,
}


class Bridge(Protocol):
    """The Celery app whose jobs these are."""

    @property
    def conveyor(self) -> Conveyor: ...

    def names_near(self, job: str) -> Mapping[str, Any]: ...


class Results(BaseBackend):
    """Reads jobs; nothing is written by Celery's side."""

    supports_autoexpire = True

    app: Bridge

    def __init__(self, app: Bridge) -> None:
        super().__init__(app=app)

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002  # Celery's
        """How the job stands, in Celery's words; one that is not known is PENDING there."""
        return self.app.conveyor.run_sync(self._read(task_id))

    def wait_for(self, task_id: str, timeout: float | None = None, *_ways: Any, **_more: Any) -> dict[str, Any]:
        """Until the job is at its end. Celery's `TimeoutError`."""
        conveyor = self.app.conveyor

        async def wait() -> None:
            await conveyor.ensure_open()
            job = conveyor.jobs.get(task_id)
            while True:
                try:
                    await job.result(timeout)
                except JobNotFoundError:  # it may be sent yet, as in Celery
                    if timeout is not None:
                        raise JobTimeoutError("task", task_id, timeout) from None
                    await conveyor.store.clock.sleep(_LOOK_S)
                    continue
                except (JobEndedError, JobResultExpiredError):
                    pass
                return

        try:
            conveyor.run_sync(wait())
        except JobTimeoutError as error:
            raise CeleryTimeoutError("The operation timed out.") from error
        return self.get_task_meta(task_id)

    def forget(self, task_id: str) -> None:
        """Results end with their time to live."""

    async def _read(self, id: str) -> dict[str, Any]:
        conveyor = self.app.conveyor
        await conveyor.ensure_open()
        job = conveyor.jobs.get(id)
        try:
            info = await job.info()
        except JobNotFoundError:
            return {"status": states.PENDING, "result": None, "traceback": None, "children": [], "task_id": id}
        return await _meta(self.app, job, info)


_LOOK_S: Final = 0.25


async def _meta(bridge: Bridge, job: Job[Any], info: JobInfo) -> dict[str, Any]:
    state = _STATES[info.state]
    result: Any = None
    if state == states.SUCCESS:
        try:
            result = unpack(await job.result(timeout=0))
        except JobResultExpiredError:
            state = states.PENDING  # as Celery has it of what it has forgotten
    elif state == states.REVOKED:
        result = TaskRevokedError("revoked")
    elif state in (states.FAILURE, states.RETRY):
        result = read_error(info.error or "Exception", bridge.names_near(info.name))
    return {
        "status": state, "result": result, "traceback": info.error if state == states.FAILURE else None, "children": [],
        "task_id": info.id, "date_done": info.ended_at, "name": info.name, "worker": info.worker, "queue": info.queue,
        "retries": max(0, info.attempts - 1),
    }  # fmt: skip


class Control:
    """`app.control`: tasks can be revoked."""

    def __init__(self, app: Bridge) -> None:
        self._app = app

    def revoke(self, task_id: str | Sequence[str], **_ways: Any) -> None:
        """Cancel: what waits is taken out, what runs finds `is_cancelled`, and is not tried again."""
        ids = [task_id] if isinstance(task_id, str) else task_id

        async def cancel() -> None:
            await self._app.conveyor.ensure_open()
            for id in ids:
                await self._app.conveyor.jobs.get(id).cancel()

        self._app.conveyor.run_sync(cancel())

    def __getattr__(self, name: str) -> NoReturn:
        raise NotBridgedError(f"control.{name}", "look at workers and queues with conveyor's own verbs and dashboard")
