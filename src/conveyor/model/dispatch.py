"""When the messages of a queue go to its workers: its consumer's mode of dispatch, and the ticks of one that goes by
the clock."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from conveyor.model.duration import SECOND_MS

if TYPE_CHECKING:
    from conveyor.model.cron_expression import CronExpression

EVERY_MINUTE: Final = "* * * * *"
TICK_MESSAGES_MAX: Final = 10_000
ALARM_MS: Final = SECOND_MS
"""What is ready for less than this does not start by alarm."""


class Dispatch(StrEnum):
    """What sets a consumer's handler going."""

    QUEUE = "queue"
    """Whatever is ready goes as soon as a worker has a free slot, in batches if the handler takes them."""
    IMMEDIATE = "immediate"
    """As `queue`; and what a process sends that works on the queue itself starts there, leased by the transaction that
    sent it."""
    CRON = "cron"
    """At each tick so many of the messages that are ready then go, one after another."""
    ALARM = "alarm"
    """One message at a time: the first a second after it was sent, each other when the one before has ended."""


@lru_cache(maxsize=64)
def ticks_of(cron: str) -> CronExpression:
    """When a consumer's clock ticks, in UTC. `CronSyntaxError`."""
    from conveyor.model.cron_expression import CronExpression

    return CronExpression.parse(cron)
