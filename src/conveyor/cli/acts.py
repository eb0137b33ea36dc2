"""What the audit trail calls what somebody does in a shell: as the server does, where it has a name for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

_THINGS: Final[Mapping[str, str]] = {
    "queues": "queue", "dlq": "dead_letter", "jobs": "job", "cron": "schedule", "tokens": "token", "alarms": "alarm",
    "webhooks": "webhook", "groups": "group", "audit": "audit",
}  # fmt: skip
_DEEDS: Final[Mapping[str, str]] = {"pause-delivery": "pause", "resume-delivery": "resume"}
_WHOLE: Final[Mapping[tuple[str, ...], str]] = {
    ("queues", "consumer", "add"): "queue.consumer.put",
    ("queues", "consumer", "worker", "add"): "queue.consumer.put",
    ("queues", "consumer", "http", "add"): "queue.consumer.put",
    ("queues", "consumer", "remove"): "queue.consumer.delete",
    ("queues", "consumer", "worker", "remove"): "queue.consumer.delete",
    ("queues", "consumer", "http", "remove"): "queue.consumer.delete",
}


def name_act() -> str:
    """Of the verb that runs now."""
    context = click.get_current_context(silent=True)
    path: list[str] = []
    while context is not None and context.parent is not None:
        path.insert(0, context.info_name or "")
        context = context.parent
    whole = _WHOLE.get(tuple(path))
    if whole is not None:
        return whole
    if not path:
        return "cli"
    return ".".join((_THINGS.get(path[0], path[0]), *(_DEEDS.get(each, each) for each in path[1:])))
