"""The words of a schedule: what an app declares, and what its function is given. Light to import."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from conveyor.model.duration import HOUR_MS, Duration, read_duration_ms
from conveyor.model.errors import InvalidSettingError
from conveyor.model.settings import RETRIES_MAX, check_name
from conveyor.store.records import ScheduleDraft

if TYPE_CHECKING:
    from conveyor.model.cron_expression import CronExpression


E = TypeVar("E", bound=Enum)

JITTER_MS_MAX: Final = HOUR_MS


class Misfire(StrEnum):
    """What becomes of ticks that nobody fired in time."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


class Overlap(StrEnum):
    """What a tick does while the previous run is not over."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class CronRun:
    """What a scheduled function is given."""

    name: str
    tick: datetime
    """The moment it was due, in UTC, whatever the jitter."""
    trigger: str
    """`schedule` or `manual`."""
    correlation_id: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A function and the rule by which it runs."""

    name: str
    function: Callable[[CronRun], Any]
    expression: CronExpression
    misfire: Misfire
    overlap: Overlap
    jitter_ms: int
    max_retries: int

    def draft(self, app: str, queue: str) -> ScheduleDraft:
        return ScheduleDraft(
            name=self.name,
            app=app,
            queue=queue,
            expression=self.expression.text,
            syntax=self.expression.syntax.value,
            timezone=self.expression.timezone,
            misfire=self.misfire.value,
            overlap=self.overlap.value,
            jitter_ms=self.jitter_ms,
        )


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a schedule's message."""

    schedule: str
    tick: int
    trigger: str
    correlation_id: str


def read_declared(
    function: Callable[..., Any],
    expression: CronExpression,
    *,
    name: str | None,
    misfire: str,
    overlap: str,
    jitter: Duration,
    max_retries: int,
) -> Declared:
    """What a declaration says; `InvalidSettingError` names what is wrong with it."""
    declared = Declared(
        name=name or str(getattr(function, "__name__", "schedule")),
        function=function,
        expression=expression,
        misfire=read_choice(Misfire, "misfire", misfire),
        overlap=read_choice(Overlap, "overlap", overlap),
        jitter_ms=read_duration_ms(jitter, name="jitter", most_ms=JITTER_MS_MAX),
        max_retries=max_retries,
    )
    check_name("schedule", declared.name)
    if not 0 <= max_retries <= RETRIES_MAX:
        raise InvalidSettingError("max_retries", max_retries, f"must lie between 0 and {RETRIES_MAX}")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        hint = f"as in `async def {declared.name}(run: CronRun) -> None`"
        problem = f"it cannot be given its `CronRun`: {error}"
        raise InvalidSettingError("schedule", declared.name, problem, hint=hint) from None
    return declared


def read_choice(kind: type[E], name: str, value: str) -> E:
    """The member with this value; `InvalidSettingError` lists those there are."""
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(f"`{each.value}`" for each in kind)
        raise InvalidSettingError(name, value, "is not known", hint=f"one of {choices}") from None
