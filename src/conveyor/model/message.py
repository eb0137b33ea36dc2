"""What travels: a draft on its way into a store, a lease on its way to a handler, and the limits of both.

These are `msgspec.Struct`s because every message passes through them: one is built in 0.2 us, a frozen dataclass in 2
us.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, Literal, TypeAlias

import msgspec

from conveyor.model.ids import MessageId

BODY_BYTES_MAX: Final = 128_000
SEALED_MARK: Final = b'{"sealed_with":"'
"""What a payload begins with that is encrypted, and hardly anything else."""
BATCH_MESSAGES_MAX: Final = 100
BATCH_BYTES_MAX: Final = 256_000
HEADERS_BYTES_MAX: Final = 4_096
KEY_CHARS_MAX: Final = 256
DELAY_MS_MAX: Final = 86_400_000
PULL_MS_MAX: Final = 12 * 3_600_000
PULL_MESSAGES_MAX: Final = 100
PEEK_MESSAGES_MAX: Final = 100
CLAIM_MESSAGES_MAX: Final = 1_000
ERROR_CHARS_MAX: Final = 2_000
CRASH_BUDGET: Final = 3
COST_MAX: Final = 1_000_000


class ContentType(StrEnum):
    """How a body is to be read."""

    JSON = "json"
    TEXT = "text"
    BYTES = "bytes"


class Priority(IntEnum):
    """Any whole number from 0 to 9 will do; these three have names. Higher goes first."""

    LOW = 2
    NORMAL = 5
    HIGH = 8


PRIORITY_MAX: Final = 9
Level: TypeAlias = int | Literal["low", "normal", "high"]
"""A priority as people write it."""


class Draft(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message as a producer hands it to a store, which stamps the time."""

    id: MessageId
    queue: str
    body: bytes
    content_type: ContentType = ContentType.JSON
    delay_ms: int | None = None
    """None: the queue's own delivery delay."""
    priority: int = Priority.NORMAL
    key: str | None = None
    dedupe: str | None = None
    headers: bytes | None = None
    """A JSON object, or None."""
    expires_in_ms: int | None = None
    """Not delivered later than this after the send; None: only retention bounds it."""
    max_retries: int | None = None
    """None: the consumer's."""
    cost: int = 1
    """Units of the consumer's rates that a delivery of it takes."""
    dedupe_ms: int | None = None
    """How long its dedupe key lives at least; None: the queue's window."""


class Sent(msgspec.Struct, frozen=True, gc=False):
    """The answer to a send, given after COMMIT: the id under which the message lives."""

    id: MessageId
    deduped: bool = False
    """A message with the same live `dedupe` key was there already; `id` is its id, and nothing was added."""


class Lease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A claim on one message. `(owner, seq, claim)` is the fence: every claim of a message has a higher `claim`."""

    seq: int
    claim: int
    """How often it was claimed in all its lives, this time included; the `attempts` of the specification."""
    id: MessageId
    queue: str
    body: bytes
    content_type: ContentType
    sent_at: int
    """Milliseconds since the epoch."""
    releases: int = 0
    """Claims that do not count: it was given back, or they lie before its death or its way back."""
    key: str | None = None
    headers: bytes | None = None
    crash_suspect: bool = False
    """Its last worker died while several messages ran: it must now run alone, in a child of its own."""
    ends_at: int | None = None
    """The store's moment until which it is ours, whatever anybody does; None: for as long as the owner lives."""

    @property
    def attempts(self) -> int:
        """What users see: deliveries that count, 1 on the first."""
        return self.claim - self.releases


class Peeked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message looked at without a claim."""

    seq: int
    id: MessageId
    queue: str
    body: bytes
    content_type: ContentType
    sent_at: int
    ready_at: int
    attempts: int
    leased: bool
    priority: int
    key: str | None = None
    headers: bytes | None = None
    dead: DeadLetter | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why a message lies in a dead letter queue."""

    origin_queue: str
    reason: str
    dead_at: int
    last_error: str | None = None
