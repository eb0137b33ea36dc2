"""How the queue does: the document's metrics, over the last hour or the last full minute."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from conveyor_apps.tables import Database, Transaction

from .records import State
from .settings import DispatchMode

HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000

PROVIDER_CALLS: Final = "provider_calls"
PROVIDER_ERRORS: Final = "provider_errors"
RATE_LIMIT_HITS: Final = "rate_limit_hits"
RETRIES: Final = "retries"
WEBHOOKS_SENT: Final = "webhooks_sent"
WEBHOOKS_FAILED: Final = "webhooks_failed"
WEBHOOKS_RETRIED: Final = "webhooks_retried"


class ProviderStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Calls of the providers."""

    calls: int
    """Since the file was made, like all that do not say otherwise."""
    calls_per_minute: int
    """In the last full minute."""
    errors: int
    rate_limit_hits: int
    """Orders that had to wait: for our own turn, or since the provider said so (429)."""


class WebhookStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Deliveries to Next.js."""

    sent: int
    """Taken by it."""
    pending: int
    """On their way just now, or waiting for another try."""
    failed: int
    """Given up, for good."""
    retried: int
    """Tries that failed, and were to be followed by another."""


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `GET /api/queue/status` answers."""

    mode: DispatchMode
    """As the queue is operated just now."""
    waiting: int
    running: int
    average_wait_seconds: float | None
    """Of those that started within the last hour."""
    average_processing_seconds: float | None
    processed_per_minute: int
    """Within the last 60 s."""
    failed_per_minute: int
    success_rate: float | None
    """Of those that ended within the last hour; cancelled ones are not counted."""
    failure_rate: float | None
    retry_rate: float | None
    """Retries for each generation that ended, since the file was made."""
    provider: ProviderStatus
    webhooks: WebhookStatus


Operated = Callable[[], Awaitable[DispatchMode]]
"""The mode of the queue, whoever set it."""
Pending = Callable[[], Awaitable[int]]
"""How many deliveries wait."""


class Statistics:
    """Counts, and says what it has counted."""

    def __init__(self, database: Database, mode: Operated, pending: Pending) -> None:
        self._database = database
        self._mode = mode
        self._pending = pending

    async def count(self, name: str, number: int = 1) -> None:
        """Something happened."""
        await self._database.write(lambda tx: tx.change("tally", name=name, count=number))

    async def fold(self) -> None:
        """Put together what is too old to be told by the minute."""

        def work(tx: Transaction) -> None:
            tx.change("fold_tallies")
            tx.change("forget_folded")

        await self._database.write(work)

    async def status(self) -> QueueStatus:
        """All of it."""
        mode, pending = await self._mode(), await self._pending()
        return await self._database.read(lambda tx: _status(tx, mode, pending))


def _status(tx: Transaction, mode: DispatchMode, pending: int) -> QueueStatus:
    states = {str(state): int(number) for state, number in tx.rows("states")}
    total = {str(name): (int(a), int(b)) for name, a, b in tx.rows("tallied")}
    wait_ms, took_ms = tx.rows("waits", since=tx.now_ms - HOUR_MS)[0]
    hour = {str(state): int(number) for state, number in tx.rows("ended_since", since=tx.now_ms - HOUR_MS)}
    minute = {str(state): int(number) for state, number in tx.rows("ended_since", since=tx.now_ms - MINUTE_MS)}
    done, failed = hour.get(State.COMPLETED, 0), hour.get(State.FAILED, 0)
    ended = sum(states.get(each, 0) for each in (State.COMPLETED, State.FAILED))
    return QueueStatus(
        mode=mode,
        waiting=states.get(State.QUEUED, 0) + states.get(State.RETRYING, 0),
        running=states.get(State.PROCESSING, 0),
        average_wait_seconds=_seconds(wait_ms),
        average_processing_seconds=_seconds(took_ms),
        processed_per_minute=minute.get(State.COMPLETED, 0),
        failed_per_minute=minute.get(State.FAILED, 0),
        success_rate=_share(done, done + failed),
        failure_rate=_share(failed, done + failed),
        retry_rate=_share(total.get(RETRIES, (0, 0))[0], ended),
        provider=ProviderStatus(
            calls=total.get(PROVIDER_CALLS, (0, 0))[0],
            calls_per_minute=total.get(PROVIDER_CALLS, (0, 0))[1],
            errors=total.get(PROVIDER_ERRORS, (0, 0))[0],
            rate_limit_hits=total.get(RATE_LIMIT_HITS, (0, 0))[0],
        ),
        webhooks=WebhookStatus(
            sent=total.get(WEBHOOKS_SENT, (0, 0))[0],
            pending=pending,
            failed=total.get(WEBHOOKS_FAILED, (0, 0))[0],
            retried=total.get(WEBHOOKS_RETRIED, (0, 0))[0],
        ),
    )


def _seconds(mean_ms: float | None) -> float | None:
    return None if mean_ms is None else round(mean_ms / 1000, 3)


def _share(part: int, whole: int) -> float | None:
    return None if not whole else round(part / whole, 4)
