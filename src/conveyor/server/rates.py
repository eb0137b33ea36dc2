"""How often somebody may: a bucket for each token and address, refilled by the second, and a memory of failures."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from conveyor.model.clock import Clock

NAMES_MAX: Final = 10_000
"""Remembered at a time; whoever was not heard of for the longest is forgotten."""


class Buckets:
    """`rate` requests a second for each name, and `burst` at once."""

    def __init__(self, clock: Clock, rate: float, burst: float) -> None:
        self._monotonic = clock.monotonic
        self._rate = rate
        self._burst = burst
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """0 if there was one left, else the seconds until there is."""
        now = self._monotonic()
        level, since = self._levels.get(name) or (self._burst, now)
        level = min(self._burst, level + (now - since) * self._rate)
        if level < 1:
            return (1 - level) / self._rate
        self._levels[name] = (level - 1, now)
        if len(self._levels) > NAMES_MAX:
            self._levels.popitem(last=False)
        return 0.0


class Failures:
    """Who has failed `limit` times within `window_s` waits until the first of them is that long ago."""

    def __init__(self, clock: Clock, limit: int, window_s: float) -> None:
        self._monotonic = clock.monotonic
        self._limit = limit
        self._window_s = window_s
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, name: str) -> None:
        """It failed once more."""
        times = self._times.setdefault(name, deque(maxlen=self._limit))
        times.append(self._monotonic())
        self._times.move_to_end(name)
        if len(self._times) > NAMES_MAX:
            self._times.popitem(last=False)

    def wait_s(self, name: str) -> float:
        """How long it has to wait; 0 for most."""
        times = self._times.get(name)
        if times is None or len(times) < self._limit:
            return 0.0
        return max(0.0, times[0] + self._window_s - self._monotonic())
