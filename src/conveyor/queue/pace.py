"""How long a consumer's handler calls take, and so how many it will start within the next second."""

from __future__ import annotations

from typing import Final

MEMORY_CALLS: Final = 256
"""After so many calls the older ones count half."""
_SPENT_S_MIN: Final = 1e-6


class Pace:
    """Calls a second that one slot gets through: calls ended over the time they took, and that those under way have
    taken so far. Where calls end in step, or have become slow, counting ends per second would claim far too much."""

    __slots__ = ("_ended", "_spent_s", "under_way_s")

    def __init__(self) -> None:
        self._ended = 0
        self._spent_s = 0.0
        self.under_way_s = 0.0
        """Of all calls that are running, as of the worker's last look."""

    def count(self, seconds: float) -> None:
        """One more call is over."""
        self._ended += 1
        self._spent_s += seconds
        if self._ended >= MEMORY_CALLS:
            self._ended //= 2
            self._spent_s /= 2

    def rate(self) -> float:
        """Calls a second and slot; 0 before any has ended."""
        if not self._ended:
            return 0.0
        return self._ended / max(_SPENT_S_MIN, self._spent_s + self.under_way_s)
