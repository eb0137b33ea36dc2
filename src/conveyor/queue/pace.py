"""How fast a consumer's handlers get through messages, and so how many it is worth to have at hand."""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 1.0
_MEMORY_S: Final = 0.1
"""The weight of what was measured before, so that the first few milliseconds of a window do not swing the rate."""


class Pace:
    """Messages a second while there was something to do; idle time does not count."""

    __slots__ = ("_ended", "_rate", "_since")

    def __init__(self) -> None:
        self._rate = 0.0
        self._since = 0.0
        self._ended = 0

    def begin(self, now: float) -> None:
        """Work begins after there was none."""
        self._since = now

    def rest(self, now: float) -> None:
        """There is no more work."""
        self._rate, self._ended, self._since = self._measure(now), 0, now

    def count(self, messages: int) -> None:
        """So many more are done."""
        self._ended += messages

    def rate(self, now: float) -> float:
        """Messages a second, by the last second or so of work."""
        measured = self._measure(now)
        if now - self._since >= WINDOW_S:
            self._rate, self._ended, self._since = measured, 0, now
        return measured

    def _measure(self, now: float) -> float:
        return (self._rate * _MEMORY_S + self._ended) / (_MEMORY_S + now - self._since)
