"""How often somebody may: a bucket for each person or address, refilled as time goes by."""

from typing import Final

from . import clock

NAMES_MAX: Final = 10_000


class Buckets:
    """`a_minute` requests for each name; as many at once as in ten seconds, but ten at least."""

    def __init__(self, a_minute: int) -> None:
        self._step_s = 60 / a_minute
        self._burst_s = max(10, a_minute // 6) * self._step_s
        self._full_at: dict[str, float] = {}

    def take(self, name: str) -> float:
        """0 if there was one left, else the seconds until there is."""
        now = clock.monotonic_s()
        full_at = max(now, self._full_at.get(name, now)) + self._step_s
        if full_at - now > self._burst_s + 1e-9:
            return full_at - now - self._burst_s
        self._full_at[name] = full_at
        if len(self._full_at) > NAMES_MAX:
            self._full_at = {each: full for each, full in self._full_at.items() if full > now}
        return 0.0
