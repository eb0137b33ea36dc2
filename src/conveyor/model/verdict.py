"""What a handler says of a message, what that means for its lease, and the delays between attempts."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, Literal, Self, TypeAlias, get_args

import msgspec

from conveyor.model.duration import DAY_MS, Duration, read_duration_ms
from conveyor.model.errors import InvalidSettingError
from conveyor.model.job import JobRecord
from conveyor.model.message import DELAY_MS_MAX

Scope: TypeAlias = Literal["queue", "key"]
"""What rests after a `RateLimited`."""


class Ack:
    """Done: the message is deleted. Returning nothing says the same."""


class TxAck(Ack):
    """Done if the user's transaction is committed; if not, it was never said."""


class Retry(Exception):
    """This attempt failed: try again, after `delay` or the consumer's own. May be returned or raised."""

    def __init__(self, delay: Duration | None = None, *, reason: str | None = None) -> None:
        super().__init__(reason or "retry")
        self.delay_ms = None if delay is None else read_duration_ms(delay, name="delay", most_ms=DELAY_MS_MAX)
        self.reason = reason


class Reject(Exception):
    """It will never work: dead-letter it now. May be returned or raised."""

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason


class RateLimited(Exception):
    """The other side asks us to wait, and no attempt is counted. May be returned or raised.

    `after` is a duration, or the seconds of a `Retry-After` header as they stand there. With `scope="queue"` the whole
    queue rests for so long, with `scope="key"` only the messages of this one's key: where the consumer does nothing
    by keys, or the message has none, that is the message alone.
    """

    def __init__(self, after: Duration, *, scope: Scope = "queue", reason: str | None = None) -> None:
        super().__init__(reason or "rate limited")
        if isinstance(after, str) and after.strip().isdecimal():
            after = int(after)
        self.after_ms = read_duration_ms(after, name="after", most_ms=DELAY_MS_MAX)
        if scope not in get_args(Scope):
            raise InvalidSettingError("scope", scope, 'must be "queue" or "key"')
        self.scope: Scope = scope
        self.reason = reason


class Snooze(Exception):
    """Not now: deliver it again after `after`, and count no attempt. May be returned or raised."""

    def __init__(self, after: Duration, *, reason: str | None = None) -> None:
        super().__init__(reason or "snoozed")
        self.after_ms = read_duration_ms(after, name="after", most_ms=DELAY_MS_MAX)
        self.reason = reason


class Action(IntEnum):
    """What a settlement does to a lease."""

    ACK = 0
    RETRY = 1
    REJECT = 2
    RELEASE = 3
    CRASH = 4
    """A failed attempt that killed the child in which it ran alone: also counts against the crash budget."""


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """One verdict on its way into a store; `(seq, claim)` fences it together with the owner."""

    seq: int
    claim: int
    action: Action = Action.ACK
    delay_ms: int | None = None
    """RETRY: before the next attempt. RELEASE: None keeps the old place in the queue."""
    reason: str | None = None
    """REJECT: why; RETRY: why it is dead if its retries are spent."""
    error: str | None = None
    """What went wrong, for people; kept with a dead letter."""
    throttles: bool = False
    """RELEASE: the whole queue rests for `delay_ms`."""
    rests_key: bool = False
    """RELEASE: the messages of its key rest for `delay_ms`, where the consumer gates keys."""
    outcome: JobRecord | None = None
    """What is kept of a job, written in the same transaction."""
    parks: tuple[str, ...] | None = None
    """RELEASE: its job sleeps for `delay_ms`, and its retention begins after that; it is ready at once if one of these
    events was sent to it."""
    is_member: bool = False
    """ACK: the message may be a member of a group, which counts it. Of other verdicts the store knows by itself."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict that leaves nothing to be judged: what a job's runner makes of how its function ended."""

    action: Action
    delay_ms: int | None = None
    reason: str | None = None
    error: str | None = None
    outcome: JobRecord | None = None
    parks: tuple[str, ...] | None = None


Verdict: TypeAlias = Ack | Retry | Reject | RateLimited | Snooze | Judged


class DeadReason(StrEnum):
    """Why a message was dead-lettered; a `Reject` brings its own words."""

    RETRIES = "retries"
    CRASHES = "crashes"
    TIMEOUT = "timeout"
    LOST = "lost"
    EXPIRED = "expired"
    DEADLINE = "deadline"
    """A job's own."""
    REJECTED = "rejected"
    SEALED = "sealed"


BACKOFF_MS_MAX: Final = DAY_MS


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """The delay before the next attempt: `base * factor ** (attempt - 1)`, at most `most`, drawn from zero up with full
    jitter.

    Full jitter as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): it spreads a wave of failures
    best.
    """

    base_ms: int
    factor: float = 1.0
    most_ms: int = BACKOFF_MS_MAX
    jitter: bool = False

    @classmethod
    def fixed(cls, delay: Duration) -> Self:
        """The same delay every time."""
        return cls(base_ms=read_duration_ms(delay, name="delay", most_ms=BACKOFF_MS_MAX))

    @classmethod
    def exponential(cls, base: Duration, *, factor: float = 2.0, most: Duration = "1d") -> Self:
        """Growing delays with full jitter."""
        return cls(
            base_ms=read_duration_ms(base, name="base", most_ms=BACKOFF_MS_MAX),
            factor=factor,
            most_ms=read_duration_ms(most, name="most", most_ms=BACKOFF_MS_MAX),
            jitter=True,
        )

    def delay_ms(self, attempt: int, chance: float) -> int:
        """The delay after failed attempt number `attempt` (from 1); `chance` is uniform in [0, 1)."""
        longest = min(float(self.most_ms), self.base_ms * self.factor ** min(attempt - 1, 64))
        return round(longest * chance) if self.jitter else round(longest)
