"""The words of a schedule: what an app declares, and what its function is given. Light to import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.store.protocol import ScheduleDraft

if TYPE_CHECKING:
    from conveyor.cron.expression import CronExpression


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
