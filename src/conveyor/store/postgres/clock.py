"""The database's clock, as a process sees it between two answers: its own clock plus the last measured difference."""

from __future__ import annotations

from conveyor.model.clock import SystemClock


class ServerClock:
    """A `Clock` that is set by what the server says; every transaction says it anew."""

    def __init__(self) -> None:
        self._here = SystemClock()
        self._offset_ms = 0

    def set(self, server_ms: int) -> None:
        self._offset_ms = server_ms - self._here.now_ms()

    def now_ms(self) -> int:
        return self._here.now_ms() + self._offset_ms

    def monotonic(self) -> float:
        return self._here.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._here.sleep(seconds)
