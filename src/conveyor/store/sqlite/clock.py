"""One clock for all processes of one file: an anchor kept in it, plus the time since boot.

Wall clocks jump; the time since boot does not, and every process of a machine reads the same. So `now` is the wall time
of the anchor plus the boot time that has passed since. A new boot sets a new anchor.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

_SINCE_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
DRIFT_MS_MAX: Final = 1_000
"""An anchor that is off by more is renewed when the file is opened and no worker lives."""


class AnchoredClock:
    """The wall time of an anchor plus the boot time since then."""

    def __init__(self, wall_ms: int, boot_ms: int) -> None:
        self._offset_ms = wall_ms - boot_ms

    def now_ms(self) -> int:
        return self._offset_ms + time.clock_gettime_ns(_SINCE_BOOT) // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def boot_ms() -> int:
    """Milliseconds since boot, sleep included where the system tells."""
    return time.clock_gettime_ns(_SINCE_BOOT) // 1_000_000


def wall_ms() -> int:
    return time.time_ns() // 1_000_000
