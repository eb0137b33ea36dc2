"""What a queue's mode of dispatch lets a claim take now. Pure, and the same for all stores.

A clock or an alarm that is only a rule over what lies in the store needs no timer that could be lost: whichever worker
asks first after the moment gets the messages, and its transaction notes on which tick's account they went.
"""

from __future__ import annotations

from typing import Final

import msgspec

from conveyor.model.dispatch import ALARM_MS, Dispatch, ticks_of
from conveyor.model.settings import ConsumerSettings

_NEVER: Final = 0


class Served(msgspec.Struct, frozen=True):
    """The last tick at which something went, and how many messages did."""

    tick: int
    messages: int


class Admission(msgspec.Struct, frozen=True):
    """Of one claim."""

    due: int
    """What was ready by then may go."""
    most: int | None = None
    """Messages; None: no bound."""
    served: Served | None = None
    """On whose account they go, and how many have gone so far."""
    opens_at: int | None = None
    """When it is worth asking again, delays apart."""
    lag_ms: int | None = 0
    """So long after it is ready a message may go; None: its delay alone tells nothing."""

    def opens_for(self, ready_at: int | None) -> int | None:
        """When it is worth asking again, if that is the first that is not yet due."""
        return None if ready_at is None or self.lag_ms is None else ready_at + self.lag_ms

    def goes_at(self, ready_at: int) -> int:
        """The same for one of several keys, which is worth asking by itself."""
        return max(ready_at, self.opens_at or 0) if self.lag_ms is None else ready_at + self.lag_ms

    def after(self, messages: int) -> Served | None:
        """What to note once so many were taken; None: nothing."""
        if self.served is None or not messages:
            return None
        return Served(self.served.tick, self.served.messages + messages)


def admit_all(now: int) -> Admission:
    """Whatever is ready."""
    return Admission(now)


def admit_at_tick(consumer: ConsumerSettings, now: int, served: Served | None) -> Admission:
    """`cron`: of what was ready at the last tick, as many as may still go on its account. A tick that nobody worked at
    is made up for until the next one comes; they never add up. One that lies further ahead than the next was served
    before the clock was set back, and counts no more: else nothing would go until it comes again."""
    ticks = ticks_of(consumer.dispatch_cron)
    last, opens_at = ticks.last_at_or_before(now), ticks.next_after(now)
    if last is None:
        return Admission(_NEVER, 0, opens_at=opens_at, lag_ms=None)
    if served is None or served.tick < last or (opens_at is not None and served.tick > opens_at):
        served = Served(last, 0)
    return Admission(last, max(0, consumer.dispatch_messages - served.messages), served, opens_at, lag_ms=None)


def admit_by_alarm(now: int, *, is_busy: bool) -> Admission:
    """`alarm`: the next one if no other is out, and none before it has waited a second."""
    return Admission(now - ALARM_MS, 0 if is_busy else 1, lag_ms=ALARM_MS)


def next_moment(consumer: ConsumerSettings, now: int, ready_at: int) -> int | None:
    """When a message that is ready at `ready_at` may go, as far as the mode alone says."""
    if consumer.dispatch is Dispatch.CRON:
        ticks = ticks_of(consumer.dispatch_cron)
        return ticks.next_after(max(now, ready_at - 1))
    return ready_at + (ALARM_MS if consumer.dispatch is Dispatch.ALARM else 0)


def rings_at(consumer: ConsumerSettings, now: int, ready_at: int) -> int | None:
    """When the alarm of a message that was ready at `ready_at` is due; None: it waits for none."""
    return ready_at + ALARM_MS if consumer.dispatch is Dispatch.ALARM and ready_at > now - ALARM_MS else None
