"""What of Celery has no place on conveyor, and what to take instead. Nothing is dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from conveyor.model.errors import InvalidError

_CANVAS: Final = "use `app.chain(...)` and `app.group(...)` of conveyor"
_LIMITS: Final = 'declare it with `@app.job(run_in="process", timeout=...)` of conveyor, whose child is killed in time'
_INSTEAD: Final = {
    "link": _CANVAS,
    "link_error": _CANVAS,
    "chain": _CANVAS,
    "chord": _CANVAS,
    "group_id": _CANVAS,
    "reply_to": "results are in conveyor's store: `AsyncResult(id)` finds them",
    "task_id": "ids are conveyor's own; for once-only use `@app.job(unique=...)` of conveyor",
    "time_limit": _LIMITS,
    "soft_time_limit": _LIMITS,
    "rate_limit": '`app.conveyor.job_queue(queue, rate="50/m")` holds over all workers',
    "exchange": "name a `queue`",
    "routing_key": "name a `queue`",
    "compression": "bodies are JSON",
    "headers": "there are none for tasks",
    "shadow": "jobs go by their task's name",
    "connection": "there is no broker",
    "serializer": "bodies are JSON",
    "args": "a retry gets the arguments that the task was sent with",
    "beat_schedule": "declare it with `@app.conveyor.cron(...)`, and send the task from there",
}
_HARMLESS: Final = frozenset({
    "add_to_parent", "delivery_mode", "group_index", "ignore_result", "immediate", "mandatory", "parent_id", "producer",
    "publisher", "replaced_task_nesting", "result_cls", "retry", "retry_policy", "root_id", "route_name", "router",
    "task_type", "retries", "argsrepr", "kwargsrepr", "stamped_headers",
})  # fmt: skip
"""Of brokers, of the way there, or what Celery keeps for itself."""


class NotBridgedError(InvalidError):
    """A part of Celery that the bridge does not have."""

    code = "celery_not_bridged"

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(f"`{what}` of Celery is not bridged to conveyor", hint=hint or _INSTEAD.get(what, ""))


def check_sent(options: Mapping[str, Any]) -> None:
    """`NotBridgedError` names an option that would be lost: of a canvas that, and not what it says to its parts."""
    for name, value in sorted(options.items(), key=lambda option: option[0] in ("reply_to", "task_id")):
        if value is None or name in _HARMLESS or _is_usual(name, value):
            continue
        raise NotBridgedError(name)


def check_task(task: Any) -> None:
    """The same, for what is declared with a task."""
    for name in ("rate_limit", "time_limit", "soft_time_limit", "serializer", "compression"):
        value = getattr(task, name, None)
        if value is not None and not _is_usual(name, value):
            raise NotBridgedError(name)


def check_configuration(conf: Any) -> None:
    """The same, for the app's."""
    if conf.beat_schedule:
        raise NotBridgedError("beat_schedule")
    limits = {"task_time_limit": "time_limit", "task_soft_time_limit": "soft_time_limit"}
    for setting, name in limits.items():
        if conf.get(setting):
            raise NotBridgedError(name)
    if not _is_usual("serializer", conf.task_serializer):
        raise NotBridgedError("serializer")


def _is_usual(name: str, value: object) -> bool:
    return name == "serializer" and value == "json"
