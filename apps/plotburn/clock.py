"""The one place in plotburn that reads the time or waits."""

import asyncio
import time
from datetime import UTC, datetime


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """The moment in milliseconds since the epoch."""
    return to_ms(now())


def to_ms(moment: datetime) -> int:
    """A moment in milliseconds since the epoch."""
    return round(moment.timestamp() * 1000)


def iso(moment_ms: int) -> str:
    """A moment as the status document prints it: `2026-01-17T16:30:00.000Z`."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Stopwatch:
    """Milliseconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def elapsed_ms(self) -> int:
        """How long ago that was."""
        return round((time.monotonic() - self._start) * 1000)


async def pause(seconds: float) -> None:
    """Wait a while."""
    await asyncio.sleep(seconds)
