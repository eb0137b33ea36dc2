"""Runs a Celery task as a conveyor job: its `request` around it, its retries as verdicts, its hooks and signals."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from celery import signals, states
from celery._state import _task_stack  # type: ignore[attr-defined]  # it is there
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.time import maybe_make_aware
from kombu.utils import json

import conveyor.model.verdict as verdicts
from conveyor.integrations.foreign import Call, check_due
from conveyor.jobs.context import JobContext

Now = Callable[[], int]
_DELAY_S_MAX = 86_400.0


def pack(value: Any) -> Any:
    """As Celery's JSON has it, dates and ids marked as what they are."""
    return msgspec.json.decode(json.dumps(value))


def unpack(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value).decode())


def make_runner(task: Any, now_ms: Now) -> Callable[[Call, JobContext], Any]:
    """The job's function: a plain one, as Celery's tasks are."""

    def run(call: Call, context: JobContext) -> Any:
        check_due(call, now_ms())
        args, kwargs = unpack(call.args), unpack(call.kwargs)
        _close_old_connections()
        _task_stack.push(task)  # `celery.current_task`
        task.push_request(**_request(task, args, kwargs, context))
        told = {"task_id": context.id, "task": task, "args": args, "kwargs": kwargs}
        signals.task_prerun.send(sender=task, **told)
        state: str = states.FAILURE
        returned = None
        try:
            task.before_start(context.id, args, kwargs)
            returned = task.run(*args, **kwargs)
            state = states.SUCCESS
            task.on_success(returned, context.id, args, kwargs)
            signals.task_success.send(sender=task, result=returned)
            return None if task.ignore_result else pack(returned)
        except Ignore:
            state = states.IGNORED
            return None
        except Retry as retry:
            state = states.RETRY
            task.on_retry(retry, context.id, args, kwargs, None)
            signals.task_retry.send(sender=task, request=task.request, reason=retry, einfo=None)
            raise verdicts.Retry(_delay_s(task, retry.when, now_ms()), reason=_reason(retry)) from retry
        except Reject as error:
            raise verdicts.Reject(str(getattr(error, "reason", None) or "rejected")) from error
        except Exception as error:
            task.on_failure(error, context.id, args, kwargs, None)
            signals.task_failure.send(
                sender=task, task_id=context.id, exception=error, args=args, kwargs=kwargs,
                traceback=error.__traceback__, einfo=None,
            )  # fmt: skip
            raise
        finally:
            task.after_return(state, returned, context.id, args, kwargs, None)
            signals.task_postrun.send(sender=task, retval=returned, state=state, **told)
            task.pop_request()
            _task_stack.pop()
            _close_old_connections()

    return run


def _close_old_connections() -> None:
    """Of a Django project, which Celery knows by the same variable: threads live on, and keep what is stale."""
    database = sys.modules.get("django.db")
    if database is not None and "DJANGO_SETTINGS_MODULE" in os.environ:
        database.close_old_connections()


def _request(task: Any, args: Any, kwargs: Any, context: JobContext) -> dict[str, Any]:
    return {
        "id": context.id, "root_id": context.id, "correlation_id": context.id, "task": task.name, "args": args,
        "kwargs": kwargs, "retries": context.attempt - 1, "called_directly": False, "is_eager": False,
        "hostname": context.worker, "delivery_info": {"routing_key": context.queue, "exchange": ""},
        "ignore_result": task.ignore_result, "headers": {},
    }  # fmt: skip


def _delay_s(task: Any, when: Any, now_ms: int) -> float:
    if isinstance(when, datetime):
        when = maybe_make_aware(when, task.app.timezone).timestamp() - now_ms / 1000
    return min(max(0.0, float(when or 0)), _DELAY_S_MAX)


def _reason(retry: Retry) -> str:
    error = retry.exc
    return str(retry) if error is None else f"{type(error).__name__}: {error}"
