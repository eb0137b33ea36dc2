"""`OPTIONS` of a backend, read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from django.core import checks
from django.db import connections

from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import ConveyorError, InvalidSettingError
from conveyor.model.job import RESULT_MS_MAX
from conveyor.model.settings import RETRIES_MAX, TIMEOUT_MS_MAX, check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `TASKS[alias]["OPTIONS"]` may say."""

    app: str | None = None
    """`MODULE:VARIABLE` of your own `Conveyor`; without it the backend makes one."""
    name: str = "django"
    """Of the app that it makes."""
    url: str | None = None
    """Where that keeps its messages; else as every app: `CONVEYOR_URL`, `pyproject.toml`, `sqlite:///conveyor.db`."""
    database: str | None = "default"
    """The database whose open transaction what is enqueued is part of; None: none."""
    max_retries: int = 0
    """How often a task that raised is tried again; Django's tasks are not, unless you say so."""
    backoff: Duration = "10s"
    """Before it is."""
    timeout: Duration = "15m"
    """Of an async task."""
    result_ttl: Duration = "7d"
    modules: tuple[str, ...] = ()
    """Where tasks are declared beside the `tasks` modules of your apps."""

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Self:
        """`InvalidSettingError`."""
        known = {each.name for each in fields(cls)}
        for name in options:
            if name not in known:
                raise InvalidSettingError("OPTIONS", name, "is no option", hint=f"it has {', '.join(sorted(known))}")
        found = cls(**{**options, "modules": tuple(options.get("modules", ()))})
        if found.app is not None and found.url is not None:
            raise InvalidSettingError("OPTIONS", "url", "belongs to your own app, since `app` names it")
        if not 0 <= found.max_retries <= RETRIES_MAX:
            raise InvalidSettingError("max_retries", found.max_retries, f"must lie between 0 and {RETRIES_MAX}")
        check_name("app", found.name)
        read_duration_ms(found.backoff, name="backoff", most_ms=RESULT_MS_MAX)
        read_duration_ms(found.timeout, name="timeout", least_ms=1, most_ms=TIMEOUT_MS_MAX)
        read_duration_ms(found.result_ttl, name="result_ttl", least_ms=1, most_ms=RESULT_MS_MAX)
        return found


def check_options(alias: str, options: Mapping[str, Any], queues: set[str]) -> Iterator[checks.CheckMessage]:
    """For `manage.py check`."""
    place = f'TASKS["{alias}"]'
    try:
        found = Options.read(options)
        for queue in sorted(queues):
            check_name("QUEUES", queue)
    except ConveyorError as error:
        yield checks.Error(f"{place}: {error.message}", hint=error.hint or None, id="conveyor.E001")
        return
    if not queues:
        yield checks.Error(
            f"{place} names no QUEUES", hint='as in "QUEUES": ["default"]: workers must know them', id="conveyor.E002"
        )
    if found.database is not None and found.database not in connections:
        yield checks.Error(
            f"{place}: `database` is {found.database!r}, which DATABASES does not have",
            hint="name one of them, or None", id="conveyor.E003",
        )  # fmt: skip
    if found.url is not None and found.url.startswith("memory:"):
        yield checks.Warning(
            f"{place} keeps its tasks in memory: no worker sees them, and they end with the process",
            hint="give a url of sqlite:/// or postgresql://", id="conveyor.W001",
        )  # fmt: skip
