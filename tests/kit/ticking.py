"""Schedules that tick many times a second, which cron's own language cannot say, and their scheduler."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

import msgspec

from conveyor.cron.schedule import CronRun, Misfire, Tick, read_declared
from conveyor.cron.scheduler import Scheduler
from conveyor.model.cron_expression import CronExpression
from conveyor.model.events import Event
from conveyor.model.ids import IdSource
from conveyor.model.settings import ConsumerSettings
from conveyor.store.protocol import Store

QUEUE: Final = "shop-cron"


class _Syntax(Enum):
    MILLISECONDS = "ms"


@dataclass(frozen=True)
class Every:
    """A tick each `period_ms`, `offset_ms` after the whole."""

    period_ms: int
    offset_ms: int = 0
    syntax: _Syntax = _Syntax.MILLISECONDS
    timezone: str = "UTC"

    @property
    def text(self) -> str:
        return f"every {self.period_ms} ms after {self.offset_ms}"

    def next_after(self, moment_ms: int) -> int:
        return (moment_ms - self.offset_ms) // self.period_ms * self.period_ms + self.period_ms + self.offset_ms

    def newest_ticks_between(self, after_ms: int, until_ms: int, *, limit: int) -> list[int]:
        first = self.next_after(after_ms)
        return list(range(first, until_ms + 1, self.period_ms))[-limit:]


async def idle(run: CronRun) -> None:
    """Scheduled; nobody works here."""


def a_scheduler(store: Store, every: Every, *, misfire: Misfire = Misfire.ALL, emit: Callable[[Event], None]) -> Scheduler:
    """Of one schedule named `tick`."""
    rules: dict[str, Any] = {"misfire": misfire.value, "overlap": "allow", "jitter": 0, "max_retries": 0}
    declared = read_declared(idle, cast(CronExpression, every), name="tick", **rules)
    return Scheduler(store, IdSource(store.clock), "shop", QUEUE, [declared], emit=emit, chance=random.Random(1))


async def make_queue(store: Store) -> None:
    await store.declare_consumer(QUEUE, ConsumerSettings(script="shop", max_retries=0))


async def count_messages(store: Store) -> Counter[int]:
    """How many messages there are of each tick."""
    found: Counter[int] = Counter()
    after = 0
    while page := await store.peek(QUEUE, limit=1_000, after_seq=after):
        found.update(msgspec.json.decode(each.body, type=Tick).tick for each in page)
        after = page[-1].seq
    return found


async def count_runs(store: Store) -> Counter[str]:
    """How many runs ended how."""
    found: Counter[str] = Counter()
    before: int | None = None
    while page := await store.list_runs("tick", limit=500, before_tick=before):
        found.update(each.status.value for each in page)
        before = page[-1].tick
    return found
