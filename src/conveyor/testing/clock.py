"""Time that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import Final

NOON_MS: Final = 1_767_268_800_000
"""2026-01-01 12:00 UTC, where a ManualClock begins unless told otherwise."""
_ROUNDS: Final = 100


class ManualClock:
    """A `Clock` for tests: `advance` moves it and wakes the sleepers it passes, each at its own moment."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self._now_ms = now_ms
        self._elapsed_ms = 0
        self._sleepers: list[tuple[int, int, asyncio.Event]] = []
        self._tickets = count()

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._elapsed_ms / 1000

    @property
    def sleepers(self) -> int:
        """How many are asleep."""
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        sleeper = (self._elapsed_ms + max(0, round(seconds * 1000)), next(self._tickets), asyncio.Event())
        if sleeper[0] == self._elapsed_ms:
            await asyncio.sleep(0)
            return
        heapq.heappush(self._sleepers, sleeper)
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move on by `seconds`, and let everyone act who is woken on the way."""
        until_ms = self._elapsed_ms + round(seconds * 1000)
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until_ms:
            moment, _, woken = heapq.heappop(self._sleepers)
            self._move_to(moment)
            woken.set()
            await self.settle()
        self._move_to(until_ms)

    async def settle(self) -> None:
        """Let every task run that can, without moving."""
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)

    def step_back(self, seconds: float) -> None:
        """The wall clock is set back; monotonic time goes on as ever."""
        self._now_ms -= round(seconds * 1000)

    def _move_to(self, elapsed_ms: int) -> None:
        self._now_ms += elapsed_ms - self._elapsed_ms
        self._elapsed_ms = elapsed_ms
