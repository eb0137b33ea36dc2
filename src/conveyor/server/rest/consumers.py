"""A queue's consumer as the API shows it and takes it."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from conveyor.model.dispatch import Dispatch
from conveyor.model.duration import DAY_MS
from conveyor.model.message import DELAY_MS_MAX
from conveyor.model.rate import read_rate
from conveyor.model.settings import ConsumerSettings, ConsumerType
from conveyor.model.verdict import Backoff
from conveyor.server.rest.shapes import Asked, Told

_DEFAULT: Final = ConsumerSettings()
_BACKOFF: Final = Backoff(base_ms=0)

Factor: TypeAlias = Annotated[float, Meta(ge=1, le=100)]
Delay: TypeAlias = Annotated[int, Meta(ge=0, le=DELAY_MS_MAX)]


class RetryDelay(Asked, frozen=True, kw_only=True):
    """`base_ms * factor ** (attempt - 1)`, at most `most_ms`; with `jitter` drawn from zero up."""

    base_ms: Delay = _BACKOFF.base_ms
    factor: Factor = _BACKOFF.factor
    most_ms: Annotated[int, Meta(ge=0, le=DAY_MS)] = _BACKOFF.most_ms
    jitter: bool = _BACKOFF.jitter


class Consumer(Asked, frozen=True, kw_only=True):
    """How a queue's messages are delivered, and what becomes of those that fail."""

    type: ConsumerType = _DEFAULT.type
    """`worker`: an app's; `http_pull`: whoever pulls."""
    script: Annotated[str, Meta(max_length=63)] = _DEFAULT.script
    """The app that consumes."""
    max_batch_size: int = _DEFAULT.max_batch_size
    max_batch_timeout_ms: int = _DEFAULT.max_batch_timeout_ms
    max_retries: int = _DEFAULT.max_retries
    retry_delay: RetryDelay = RetryDelay()
    max_concurrency: int | None = None
    dead_letter_queue: str | None = None
    alert_queue: str | None = None
    timeout_ms: int = _DEFAULT.timeout_ms
    visibility_timeout_ms: int = _DEFAULT.visibility_timeout_ms
    ordered: bool = False
    key_concurrency: int | None = None
    rate: Annotated[str, Meta(max_length=32)] | None = None
    """As in `50/m`."""
    key_rate: Annotated[str, Meta(max_length=32)] | None = None
    fair: bool = False
    key_weights: dict[str, int] = msgspec.field(default_factory=dict)
    ageing_ms: int | None = _DEFAULT.ageing_ms
    """What has waited so long, and longer than all that goes before it by priority, is lifted; null: never."""
    tracks_jobs: bool = False
    """Jobs lie in it, whose state and history are kept."""
    dispatch: Dispatch = _DEFAULT.dispatch
    """What sets its handler going."""
    dispatch_cron: Annotated[str, Meta(max_length=256)] = _DEFAULT.dispatch_cron
    """For `cron`: when it ticks, in UTC."""
    dispatch_messages: int = _DEFAULT.dispatch_messages
    """For `cron`: messages that go at a tick."""


class ConsumerShown(Told, frozen=True, kw_only=True):
    """A consumer as it operates."""

    type: ConsumerType
    script: str
    max_batch_size: int
    max_batch_timeout_ms: int
    max_retries: int
    retry_delay: RetryDelay
    max_concurrency: int | None
    dead_letter_queue: str | None
    alert_queue: str | None
    timeout_ms: int
    visibility_timeout_ms: int
    ordered: bool
    key_concurrency: int | None
    rate: str | None
    key_rate: str | None
    fair: bool
    key_weights: dict[str, int]
    ageing_ms: int | None
    tracks_jobs: bool
    dispatch: Dispatch
    dispatch_cron: str
    dispatch_messages: int


def read_consumer(asked: Consumer) -> ConsumerSettings:
    """`InvalidSettingError`."""
    fields = msgspec.structs.asdict(asked) | {
        "retry_delay": Backoff(**msgspec.structs.asdict(asked.retry_delay)),
        "rate": read_rate(asked.rate, name="rate"),
        "key_rate": read_rate(asked.key_rate, name="key_rate"),
    }
    return ConsumerSettings(**fields)


def show_consumer(settings: ConsumerSettings) -> ConsumerShown:
    fields = msgspec.structs.asdict(settings) | {
        "retry_delay": RetryDelay(**msgspec.structs.asdict(settings.retry_delay)),
        "rate": None if settings.rate is None else str(settings.rate),
        "key_rate": None if settings.key_rate is None else str(settings.key_rate),
    }
    return ConsumerShown(**fields)
