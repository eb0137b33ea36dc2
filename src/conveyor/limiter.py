"""A rate that code asks before it does something, counted in the store for all processes: `app.limiter("veo", "10/m")`.

A queue's own `rate` counts what is leased, so that a job which wakes up to look at something spends it as well. Here
only what asks is counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import InvalidSettingError, VersionConflictError
from conveyor.model.message import DELAY_MS_MAX
from conveyor.model.rate import Rate, Window
from conveyor.model.verdict import RateLimited
from conveyor.store.protocol import Store
from conveyor.store.resting import latest_of

LIMITERS: Final = "limiter"
"""The kind of documents that hold, under a limiter's name, what was taken of it."""


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    entries: msgspec.Raw = msgspec.Raw(b"[]")
    """Of the window."""
    rests_until: int = 0


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
            with contextlib.suppress(VersionConflictError):  # somebody else has taken one meanwhile
                return await self._try(self._store(), cost)

    async def require(self, cost: int = 1) -> None:
        """Take them, or raise the `RateLimited` that puts a handler's message off until there is room: no attempt is
        counted, and others are not held up."""
        wait_s = await self.take(cost)
        if wait_s > 0:
            raise RateLimited(wait_s, scope="key", reason=f"limiter {self.name}")

    async def rest(self, after: Duration) -> None:
        """Give nobody any for so long: the other side has said so. A rest that ends later stays."""
        after_ms = read_duration_ms(after, name="after", most_ms=DELAY_MS_MAX)
        await self._ensure_open()
        while True:
            with contextlib.suppress(VersionConflictError):
                return await self._rest(self._store(), after_ms)

    async def _try(self, store: Store, cost: int) -> float:
        kept, version = await self._read(store)
        window = Window.decode(self.rate, bytes(kept.entries).decode())
        now = store.clock.now_ms()
        rests_until = kept.rests_until if kept.rests_until <= latest_of(None, now).rest else 0
        opens_at = max(rests_until, now if window.fits(now, cost) else window.opens_at(now, cost))
        if opens_at > now:
            return (opens_at - now) / 1000
        window.take(now, cost)
        await self._write(store, _Kept(entries=msgspec.Raw(window.encode().encode())), version)
        return 0.0

    async def _rest(self, store: Store, after_ms: int) -> None:
        kept, version = await self._read(store)
        now = store.clock.now_ms()
        until = now + after_ms
        if not until <= kept.rests_until <= latest_of(None, now).rest:
            await self._write(store, replace(kept, rests_until=until), version)

    async def _read(self, store: Store) -> tuple[_Kept, int]:
        found = await store.get_document(LIMITERS, self.name)
        if found is None:
            return _Kept(), 0
        return msgspec.json.decode(found.body, type=_Kept), found.version

    async def _write(self, store: Store, kept: _Kept, version: int) -> None:
        await store.put_document(LIMITERS, self.name, msgspec.json.encode(kept), version=version)

    def __repr__(self) -> str:
        return f"<Limiter {self.name!r}, {self.rate}>"
