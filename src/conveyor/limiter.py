"""A rate that code asks before it does something, counted in the store for all processes: `app.limiter("veo", "10/m")`.

A queue's own `rate` counts what is leased, so that a job which wakes up to look at something spends it as well. Here
only what asks is counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from conveyor.model.errors import InvalidSettingError, VersionConflictError
from conveyor.model.rate import Rate, Window
from conveyor.model.verdict import RateLimited
from conveyor.store.protocol import Store

LIMITERS: Final = "limiter"
"""The kind of documents that hold, under a limiter's name, what was taken of it."""


class Limiter:
    """At most so many units within any period, wherever it begins, by all who ask under this name.

    Who is given a unit has it from that moment on, whether it is used or not: use it at once.
    """

    __slots__ = ("_ensure_open", "_store", "name", "rate")

    def __init__(
        self, store: Callable[[], Store], ensure_open: Callable[[], Awaitable[None]], name: str, rate: Rate
    ) -> None:
        self.name = name
        self.rate = rate
        self._store = store
        self._ensure_open = ensure_open

    async def take(self, cost: int = 1) -> float:
        """0: the units are taken, go on. Else nothing was taken, and so many seconds from now there is room for them,
        if nobody else is faster. `InvalidSettingError` for a cost that is never there."""
        if not 1 <= cost <= self.rate.count:
            raise InvalidSettingError("cost", cost, f"must lie between 1 and the {self.rate.count:,} of the rate")
        await self._ensure_open()
        while True:
            try:
                return await self._try(self._store(), cost)
            except VersionConflictError:  # somebody else has taken one meanwhile
                continue

    async def require(self, cost: int = 1) -> None:
        """Take them, or raise the `RateLimited` that puts a handler's message off until there is room: no attempt is
        counted, and others are not held up."""
        wait_s = await self.take(cost)
        if wait_s > 0:
            raise RateLimited(wait_s, scope="key", reason=f"limiter {self.name}")

    async def _try(self, store: Store, cost: int) -> float:
        found = await store.get_document(LIMITERS, self.name)
        window = Window.decode(self.rate, None if found is None else found.body.decode())
        now = store.clock.now_ms()
        if not window.fits(now, cost):
            return max(1, window.opens_at(now, cost) - now) / 1000
        window.take(now, cost)
        version = 0 if found is None else found.version
        await store.put_document(LIMITERS, self.name, window.encode().encode(), version=version)
        return 0.0

    def __repr__(self) -> str:
        return f"<Limiter {self.name!r}, {self.rate}>"
