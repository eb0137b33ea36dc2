"""The one place in concierge that reads the time or waits."""

import asyncio
import time
from datetime import UTC, datetime


def now_ms() -> int:
    """The moment in milliseconds since the epoch."""
    return round(time.time() * 1000)


def iso(moment_ms: int) -> str:
    """A moment for people and browsers: `2026-01-17T16:30:00.000Z`."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_s() -> float:
    """The moment in seconds since the epoch: what processes that share a file agree on."""
    return time.time()


def monotonic_s() -> float:
    """Seconds on a clock that nobody sets."""
    return time.monotonic()


async def pause(seconds: float) -> None:
    """Wait a while."""
    await asyncio.sleep(seconds)


def read_iso(text: str) -> int:
    """The moment in milliseconds; one without a zone is UTC, a date alone its midnight. `ValueError`."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def moment(moment_ms: int) -> datetime:
    """A moment in UTC."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC)
