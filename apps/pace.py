"""How often somebody may ask: some at once, and then one now and then. What is remembered of names is bounded, so that
invented ones fill no memory."""

import asyncio
from typing import Final

NAMES_MAX: Final = 10_000


class Pace:
    """`a_minute` for each name, and `at_once` at once: as many, unless it is said. Of each name is known when it will
    have all of them again. By the running loop's clock."""

    def __init__(self, a_minute: int, *, at_once: int | None = None) -> None:
        self._step_s = 60 / a_minute
        self._burst_s = (a_minute if at_once is None else at_once) * self._step_s
        self._full_at: dict[str, float] = {}

    def take(self, name: str) -> float:
        """0 if there was one left, else the seconds until there is."""
        now = asyncio.get_running_loop().time()
        full_at = max(now, self._full_at.get(name, now)) + self._step_s
        if full_at - now > self._burst_s + 1e-9:
            return full_at - now - self._burst_s
        self._full_at[name] = full_at
        if len(self._full_at) > NAMES_MAX:
            kept = {each: until for each, until in self._full_at.items() if until > now}
            self._full_at = kept if len(kept) <= NAMES_MAX else {}  # better some too many than a memory without end
        return 0.0
