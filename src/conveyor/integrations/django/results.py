"""Django's `TaskResult` of a job: at its enqueueing, while it runs, at its end, and from the store."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from django.conf import settings

from conveyor.integrations.django.api import Task, TaskError, TaskResult, TaskResultStatus
from conveyor.integrations.foreign import Call, find_error_class
from conveyor.jobs.context import JobContext
from conveyor.jobs.job import JobInfo, Transition
from conveyor.model.job import JobState
from conveyor.queue.sealing import Sealer
from conveyor.store.jobs import JobFound

_STATUS: Final[dict[JobState, TaskResultStatus]] = {
    JobState.QUEUED: TaskResultStatus.READY,
    JobState.SCHEDULED: TaskResultStatus.READY,
    JobState.RETRYING: TaskResultStatus.READY,
    JobState.RUNNING: TaskResultStatus.RUNNING,
    JobState.SUCCEEDED: TaskResultStatus.SUCCESSFUL,
    JobState.FAILED: TaskResultStatus.FAILED,
    JobState.DEAD: TaskResultStatus.FAILED,
    JobState.CANCELLED: TaskResultStatus.FAILED,
}


def enqueued(task: Task[Any, Any], id: str, call: Call, alias: str, at_ms: int) -> TaskResult[Any]:
    return _result(task, id, call, alias, TaskResultStatus.READY, enqueued_at=_moment(at_ms))


def running(task: Task[Any, Any], call: Call, context: JobContext, alias: str) -> TaskResult[Any]:
    began = _local(context.started_at)
    return _result(
        task, context.id, call, alias, TaskResultStatus.RUNNING, enqueued_at=_local(context.enqueued_at),
        started_at=began, last_attempted_at=began, worker_ids=[context.worker] * context.attempt,
    )  # fmt: skip


def ended(
    task: Task[Any, Any], call: Call, context: JobContext, alias: str, returned: object, error: Exception | None,
    at_ms: int,
) -> TaskResult[Any]:  # fmt: skip
    """`TypeError` or `ValueError` for a return value that is no JSON."""
    status = TaskResultStatus.SUCCESSFUL if error is None else TaskResultStatus.FAILED
    result = running(task, call, context, alias)
    _set(result, status=status, finished_at=_moment(at_ms))
    if error is None:
        _set(result, _return_value=msgspec.to_builtins(returned))
    else:
        kind = type(error)
        text = "".join(traceback.format_exception(error))
        result.errors.append(TaskError(exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback=text))
    return result


def stored(
    task: Task[Any, Any], alias: str, found: JobFound, info: JobInfo, sealer: Sealer
) -> TaskResult[Any]:
    """From what the store keeps: of an error its class and its words, and not the whole traceback."""
    kept = _kept(found, sealer)
    call = Call(list(kept.get("args", ())), dict(kept.get("kwargs", {})))
    runs = [each for each in info.timeline if each.state is JobState.RUNNING]
    result = _result(
        task, info.id, call, alias, _STATUS[info.state], enqueued_at=_local(info.enqueued_at),
        started_at=_local(runs[0].at) if runs else None, last_attempted_at=_local(runs[-1].at) if runs else None,
        worker_ids=[each.worker or "" for each in runs], errors=_errors(task, info),
    )  # fmt: skip
    if result.is_finished:
        _set(result, finished_at=None if info.ended_at is None else _local(info.ended_at))
    _set(result, _return_value=kept.get("value"))
    return result


def _kept(found: JobFound, sealer: Sealer) -> dict[str, Any]:
    """The arguments, from the message while there is one, else from the result, which has the value beside them."""
    record, message = found.record, found.message
    body = None
    if record is not None and record.result is not None:
        body = sealer.open_kept(record.queue, f"result/{found.id.hex()}", record.result)
    elif message is not None:
        body = sealer.opened(message).body
    kept: dict[str, Any] = {} if body is None else msgspec.json.decode(body)
    return kept


def _errors(task: Task[Any, Any], info: JobInfo) -> list[TaskError]:
    lines = _lines(info.timeline)
    if not lines and info.error is not None:
        lines = [info.error]
    if not lines and info.state is JobState.CANCELLED:
        lines = ["CancelledError: it was cancelled"]
    return [TaskError(exception_class_path=_class_path(task, line), traceback=line) for line in lines]


def _lines(timeline: Sequence[Transition]) -> list[str]:
    return [each.error for each in timeline if each.error is not None]


def _class_path(task: Task[Any, Any], line: str) -> str:
    kind = find_error_class(line.partition(":")[0], task.func.__globals__) or Exception
    return f"{kind.__module__}.{kind.__qualname__}"


def _result(
    task: Task[Any, Any], id: str, call: Call, alias: str, status: TaskResultStatus, *, enqueued_at: datetime,
    started_at: datetime | None = None, last_attempted_at: datetime | None = None,
    worker_ids: list[str] | None = None, errors: list[TaskError] | None = None,
) -> TaskResult[Any]:  # fmt: skip
    return TaskResult(
        task=task, id=id, status=status, enqueued_at=enqueued_at, started_at=started_at, finished_at=None,
        last_attempted_at=last_attempted_at, args=call.args, kwargs=call.kwargs, backend=alias, errors=errors or [],
        worker_ids=worker_ids or [],
    )  # fmt: skip


def _set(result: TaskResult[Any], **values: object) -> None:
    """Django's results are frozen, and its own backends write them so."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _moment(ms: int) -> datetime:
    return _local(datetime.fromtimestamp(ms / 1000, UTC))


def _local(moment: datetime) -> datetime:
    """As Django has them: aware where USE_TZ is set."""
    return moment if settings.USE_TZ else moment.astimezone().replace(tzinfo=None)
