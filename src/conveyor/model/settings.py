"""Settings of queues and consumers, checked once at the door. Names and defaults are Cloudflare's, in milliseconds
inside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Any, Final

import msgspec

from conveyor.model.dispatch import EVERY_MINUTE, TICK_MESSAGES_MAX, Dispatch, ticks_of
from conveyor.model.duration import DAY_MS, MINUTE_MS, SECOND_MS, Duration, read_duration_ms
from conveyor.model.errors import InvalidMessageError, InvalidSettingError
from conveyor.model.message import BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, BODY_BYTES_MAX, DELAY_MS_MAX, KEY_CHARS_MAX
from conveyor.model.rate import Rate, read_rate
from conveyor.model.verdict import BACKOFF_MS_MAX, Backoff

RETENTION_MS_MIN: Final = MINUTE_MS
RETENTION_MS_MAX: Final = 14 * DAY_MS
RETRIES_MAX: Final = 100
BATCH_TIMEOUT_MS_MAX: Final = 60 * SECOND_MS
CONCURRENCY_MAX: Final = 10_000
TIMEOUT_MS_MAX: Final = 12 * 60 * MINUTE_MS
DEDUPE_MS_MAX: Final = 30 * DAY_MS
BACKLOG_BYTES_MAX: Final = 25_000_000_000
WEIGHT_MAX: Final = 1_000
WEIGHTS_MAX: Final = 1_000

_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.:-]{0,61}[a-zA-Z0-9])?")


class Default(Enum):
    """What is meant where Python says nothing: a file may say something else, and None means what it says."""

    MAX_BATCH_SIZE = 10
    MAX_BATCH_TIMEOUT = 5
    MAX_RETRIES = 3
    RETRY_DELAY = 0
    MAX_CONCURRENCY = None
    DEAD_LETTER_QUEUE = "<queue>-dlq"
    WRANGLER = "the nearest wrangler.json, .jsonc or .toml"


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

    rate: Rate | None = None
    """Units of cost that may be leased within any period of it, over all processes."""
    key_rate: Rate | None = None
    """The same for the messages of each key."""
    fair: bool = False
    """Keys take turns, so that a long queue of one holds no other up. Messages without a key take turns as one key."""
    key_weights: dict[str, int] = {}
    """Messages of a key in one turn, where that is not 1; only with `fair`."""
    ageing_ms: int | None = MINUTE_MS
    """What has waited so long, and longer than all that goes before it by priority, is lifted; None: never."""
    tracks_jobs: bool = False
    """Its messages carry jobs: what becomes of them is kept."""
    dispatch: Dispatch = Dispatch.QUEUE
    """What sets its handler going; a change of it loses and reorders nothing that waits."""
    dispatch_cron: str = EVERY_MINUTE
    """For `cron`: when it ticks, in UTC."""
    dispatch_messages: int = 1
    """For `cron`: messages that go at a tick, over all processes."""

    @property
    def calls_max(self) -> int | None:
        """Handler calls running at once, over all processes, as the mode of dispatch has it; None counts nothing."""
        match self.dispatch:
            case Dispatch.ALARM:
                return 1
            case Dispatch.CRON:
                return self.max_concurrency or 1
            case Dispatch.QUEUE | Dispatch.IMMEDIATE:
                return self.max_concurrency

    @property
    def is_paced(self) -> bool:
        """Whether a message that is ready may have to wait for its moment."""
        return self.dispatch in {Dispatch.CRON, Dispatch.ALARM}

    @property
    def batch_wait_ms(self) -> int:
        """How long an incomplete batch waits for more: not where it has another moment of its own."""
        return self.max_batch_timeout_ms if self.dispatch is Dispatch.QUEUE else 0

    @property
    def gates_keys(self) -> bool:
        """Whether keys mean anything here; if not, no row or index is written for them."""
        return self.ordered or self.fair or self.key_concurrency is not None or self.key_rate is not None

    @property
    def limits_keys(self) -> bool:
        """Whether the end of a message's lease lets another of its key go."""
        return self.ordered or self.key_concurrency is not None

    @property
    def key_limit(self) -> int | None:
        """Messages of one key that may be leased at once."""
        return 1 if self.ordered else self.key_concurrency

    def gate_key(self, key: str | None) -> str | None:
        """The key under which a message stands at the gate; None: it is free. Those without one take turns, as `""`."""
        if not self.gates_keys:
            return None
        return "" if key is None and self.fair else key

    def weight_of(self, key: str) -> int:
        """Messages of this key in one turn."""
        return self.key_weights.get(key, 1)

    def check_cost(self, cost: int) -> None:
        """`InvalidMessageError` if a message of this cost would break a rate each time it went."""
        for name, rate in (("rate", self.rate), ("key_rate", self.key_rate)):
            if rate is not None and cost > rate.count:
                raise InvalidMessageError("cost", cost, f"is more than the consumer's `{name}` of {rate} lets through")

    def check(self) -> None:
        """`InvalidSettingError` on the first value out of bounds."""
        _within("max_batch_size", self.max_batch_size, 1, 1_000)
        _within("max_batch_timeout", self.max_batch_timeout_ms, 0, BATCH_TIMEOUT_MS_MAX)
        _within("max_retries", self.max_retries, 0, RETRIES_MAX)
        _within("max_concurrency", self.max_concurrency, 1, CONCURRENCY_MAX)
        _within("key_concurrency", self.key_concurrency, 1, CONCURRENCY_MAX)
        _within("timeout", self.timeout_ms, 1, TIMEOUT_MS_MAX)
        _within("visibility_timeout", self.visibility_timeout_ms, 0, TIMEOUT_MS_MAX)
        _within("ageing", self.ageing_ms, 0, RETENTION_MS_MAX)
        if self.dead_letter_queue is not None:
            check_name("dead_letter_queue", self.dead_letter_queue)
        if self.alert_queue is not None:
            check_name("alert_queue", self.alert_queue)
        for name, rate in (("rate", self.rate), ("key_rate", self.key_rate)):
            if rate is not None:
                rate.check(name)
        _check_weights(self.key_weights, fair=self.fair)
        _check_dispatch(self)


def read_consumer(
    *,
    max_batch_timeout: Duration,
    retry_delay: Duration | Backoff,
    timeout: Duration,
    rate: str | None,
    key_rate: str | None,
    key_weights: Mapping[str, int] | None,
    ageing: Duration | None = MINUTE_MS / SECOND_MS,
    dispatch: str = Dispatch.QUEUE,
    **settings: Any,
) -> ConsumerSettings:
    """From what people write. `InvalidSettingError`, `InvalidDurationError`."""
    if not isinstance(retry_delay, Backoff):
        retry_delay = Backoff(base_ms=read_duration_ms(retry_delay, name="retry_delay", most_ms=BACKOFF_MS_MAX))
    return ConsumerSettings(
        max_batch_timeout_ms=read_duration_ms(
            max_batch_timeout, name="max_batch_timeout", most_ms=BATCH_TIMEOUT_MS_MAX
        ),
        retry_delay=retry_delay,
        timeout_ms=read_duration_ms(timeout, name="timeout", least_ms=1, most_ms=TIMEOUT_MS_MAX),
        rate=read_rate(rate, name="rate"),
        key_rate=read_rate(key_rate, name="key_rate"),
        key_weights=dict(key_weights or {}),
        ageing_ms=None if ageing is None else read_duration_ms(ageing, name="ageing", most_ms=RETENTION_MS_MAX),
        dispatch=read_dispatch(dispatch),
        **settings,
    )


def read_dispatch(value: str) -> Dispatch:
    """`InvalidSettingError`."""
    if value not in set(Dispatch):
        raise InvalidSettingError("dispatch", value, f"must be one of {', '.join(f'`{each}`' for each in Dispatch)}")
    return Dispatch(value)


def gating_of(consumer: ConsumerSettings | None) -> tuple[object, ...]:
    """What a consumer says of keys: where this changes, all that lies in the queue is placed anew."""
    settings = consumer or ConsumerSettings()
    return settings.ordered, settings.key_concurrency, settings.key_rate, settings.fair


def pacing_of(consumer: ConsumerSettings | None) -> tuple[object, ...]:
    """What a consumer says of when its messages may go."""
    settings = consumer or ConsumerSettings()
    return settings.dispatch, settings.dispatch_cron


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


def _check_weights(weights: Mapping[str, int], *, fair: bool) -> None:
    if weights and not fair:
        raise InvalidSettingError(
            "key_weights", weights, "means nothing where keys take no turns", hint="add fair=True"
        )
    if len(weights) > WEIGHTS_MAX:
        raise InvalidSettingError("key_weights", f"<{len(weights):,} keys>", f"names more than {WEIGHTS_MAX:,} keys")
    for key, weight in weights.items():
        if not isinstance(key, str) or not 1 <= len(key) <= KEY_CHARS_MAX:
            raise InvalidSettingError("key_weights", key, f"must be text of 1 to {KEY_CHARS_MAX} characters")
        _within(f"key_weights[{key!r}]", weight, 1, WEIGHT_MAX)


def _check_dispatch(settings: ConsumerSettings) -> None:
    _within("dispatch_messages", settings.dispatch_messages, 1, TICK_MESSAGES_MAX)
    if settings.dispatch_cron != EVERY_MINUTE:
        ticks_of(settings.dispatch_cron)
    if settings.dispatch is not Dispatch.QUEUE and settings.type is not ConsumerType.WORKER:
        raise InvalidSettingError(
            "dispatch", str(settings.dispatch), "is for workers; whoever pulls takes what is ready"
        )


def _within(name: str, value: int | None, least: int, most: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidSettingError(name, value, f"must be a whole number from {least:,} to {most:,}")
