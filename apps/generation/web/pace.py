"""How often one user may ask for a video: some at once, and then one now and then. Of few users at a time, so that
nobody's invented names fill the memory."""

import asyncio
from typing import Final

USERS_MAX: Final = 10_000


class Pace:
    """`a_minute` for each name, and as many at once. Of each is known when it will have all of them again."""

    def __init__(self, a_minute: int) -> None:
        self._step_s = 60 / a_minute
        self._full_at: dict[str, float] = {}

    def take(self, name: str) -> float:
        """0 if there was one left, else the seconds until there is."""
        now = asyncio.get_running_loop().time()
        full_at = max(now, self._full_at.get(name, now)) + self._step_s
        if full_at - now > 60.0 + 1e-9:
            return full_at - now - 60.0
        self._full_at[name] = full_at
        if len(self._full_at) > USERS_MAX:
            kept = {each: until for each, until in self._full_at.items() if until > now}
            self._full_at = kept if len(kept) <= USERS_MAX else {}  # better some too many than a memory without end
        return 0.0
