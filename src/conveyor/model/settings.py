"""Settings of queues and consumers, checked once at the door. Names and defaults are Cloudflare's, in milliseconds
inside."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import msgspec

from conveyor.model.duration import DAY_MS, MINUTE_MS, SECOND_MS
from conveyor.model.errors import InvalidSettingError
from conveyor.model.message import BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, BODY_BYTES_MAX, DELAY_MS_MAX
from conveyor.model.verdict import Backoff

RETENTION_MS_MIN: Final = MINUTE_MS
RETENTION_MS_MAX: Final = 14 * DAY_MS
RETRIES_MAX: Final = 100
BATCH_TIMEOUT_MS_MAX: Final = 60 * SECOND_MS
CONCURRENCY_MAX: Final = 10_000
TIMEOUT_MS_MAX: Final = 12 * 60 * MINUTE_MS
DEDUPE_MS_MAX: Final = 30 * DAY_MS
BACKLOG_BYTES_MAX: Final = 25_000_000_000

_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.:-]{0,61}[a-zA-Z0-9])?")


class ConsumerType(StrEnum):
    """Who takes the messages: an app's workers, or whoever pulls over HTTP."""

    WORKER = "worker"
    HTTP_PULL = "http_pull"


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue promises its producers."""

    delivery_delay_ms: int = 0
    retention_ms: int = 4 * DAY_MS
    dedupe_window_ms: int = 0
    max_message_bytes: int = BODY_BYTES_MAX
    max_batch_messages: int = BATCH_MESSAGES_MAX
    max_batch_bytes: int = BATCH_BYTES_MAX
    max_backlog_messages: int | None = None
    max_backlog_bytes: int = BACKLOG_BYTES_MAX

    def check(self) -> None:
        """`InvalidSettingError` on the first value out of bounds."""
        _within("delivery_delay", self.delivery_delay_ms, 0, DELAY_MS_MAX)
        _within("retention", self.retention_ms, RETENTION_MS_MIN, RETENTION_MS_MAX)
        _within("dedupe_window", self.dedupe_window_ms, 0, DEDUPE_MS_MAX)
        _within("max_message_bytes", self.max_message_bytes, 1, 1_000_000_000)
        _within("max_batch_messages", self.max_batch_messages, 1, 1_000_000)
        _within("max_batch_bytes", self.max_batch_bytes, 1, 1_000_000_000)
        _within("max_backlog_messages", self.max_backlog_messages, 1, 10**15)
        _within("max_backlog_bytes", self.max_backlog_bytes, 1, 10**18)


class ConsumerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a queue's messages are delivered, and what becomes of those that fail."""

    type: ConsumerType = ConsumerType.WORKER
    script: str = ""
    """The app that consumes; one per queue."""
    max_batch_size: int = 10
    max_batch_timeout_ms: int = 5 * SECOND_MS
    max_retries: int = 3
    retry_delay: Backoff = Backoff(base_ms=0)
    max_concurrency: int | None = None
    """Handler calls running at once, over all processes; None counts nothing."""
    dead_letter_queue: str | None = None
    """None: a message that fails for good is deleted."""
    alert_queue: str | None = None
    """Told of every dead letter by a message written in the same transaction."""
    timeout_ms: int = 15 * MINUTE_MS
    visibility_timeout_ms: int = 30 * SECOND_MS
    ordered: bool = False
    """Messages of one key are delivered one after another, in the order in which they were sent."""
    key_concurrency: int | None = None
    """Messages of one key that may be leased at once, over all processes."""

    @property
    def gates_keys(self) -> bool:
        """Whether keys mean anything here; if not, no row or index is written for them."""
        return self.ordered or self.key_concurrency is not None

    @property
    def key_limit(self) -> int:
        """Messages of one key that may be leased at once, where keys are gated."""
        return 1 if self.ordered or self.key_concurrency is None else self.key_concurrency

    def check(self) -> None:
        """`InvalidSettingError` on the first value out of bounds."""
        _within("max_batch_size", self.max_batch_size, 1, 1_000)
        _within("max_batch_timeout", self.max_batch_timeout_ms, 0, BATCH_TIMEOUT_MS_MAX)
        _within("max_retries", self.max_retries, 0, RETRIES_MAX)
        _within("max_concurrency", self.max_concurrency, 1, CONCURRENCY_MAX)
        _within("key_concurrency", self.key_concurrency, 1, CONCURRENCY_MAX)
        _within("timeout", self.timeout_ms, 1, TIMEOUT_MS_MAX)
        _within("visibility_timeout", self.visibility_timeout_ms, 0, TIMEOUT_MS_MAX)
        if self.dead_letter_queue is not None:
            check_name("dead_letter_queue", self.dead_letter_queue)
        if self.alert_queue is not None:
            check_name("alert_queue", self.alert_queue)


def check_name(what: str, name: str) -> None:
    """`InvalidSettingError` unless `name` has 1 to 63 letters, digits or `_ . : -`, and begins and ends with one of the
    former."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidSettingError(
            what,
            name,
            "is not a name",
            hint="1 to 63 letters, digits, `-`, `_`, `.` or `:`, as in `movie-processing-queue`",
        )


def _within(name: str, value: int | None, least: int, most: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidSettingError(name, value, f"must be a whole number from {least:,} to {most:,}")
