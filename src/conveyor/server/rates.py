"""How often somebody may: a bucket for each token and address, refilled by the second, and a memory of failures."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from conveyor.model.clock import Clock

NAMES_MAX: Final = 10_000
"""Remembered at a time; whoever was not heard of for the longest is forgotten."""


_ROUNDING_S: Final = 1e-9


class Buckets:
    """`rate` requests a second for each name, and `burst` at once. Of each is known when its bucket will be full again;
    who is not known has a full one."""

    def __init__(self, clock: Clock, rate: float, burst: float) -> None:
        self._monotonic = clock.monotonic
        self._step_s = 1 / rate
        self._burst_s = burst / rate
        self._full_at: dict[str, float] = {}

    def take(self, name: str) -> float:
        """0 if there was one left, else the seconds until there is."""
        now = self._monotonic()
        full_at = self._full_at.get(name, now)
        full_at = max(now, full_at) + self._step_s
        if full_at - now > self._burst_s + _ROUNDING_S:
            return full_at - now - self._burst_s
        self._full_at[name] = full_at
        if len(self._full_at) > NAMES_MAX:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Those that are full; if that is none, all: better a burst too many than a memory without end."""
        kept = {name: full_at for name, full_at in self._full_at.items() if full_at > now}
        self._full_at = kept if len(kept) < NAMES_MAX else {}


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
