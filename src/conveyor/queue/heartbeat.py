"""Renews the leases of a worker that lives in somebody else's process, from a thread, so that a busy event loop keeps
them.

A thread cannot help while one C call holds the GIL for longer than a lease (15 s); workers under `conveyor work` have a
supervisor process for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Final

from conveyor.model.errors import StoreError
from conveyor.store.protocol import Store
from conveyor.store.records import OWNER_LEASE_MS

HEARTBEAT_S: Final = 5.0
SWEEP_S: Final = 1.0
CUT_S: Final = 1.0
"""A beat under way may take so long when it is told to end."""


class Heartbeat:
    """A thread with a store of its own; `on_lost` is called in it when the owner was reaped by somebody."""

    def __init__(self, make_store: Callable[[], Store], owner: int, *, on_lost: Callable[[], None]) -> None:
        self._make_store = make_store
        self._owner = owner
        self._on_lost = on_lost
        self._ends = threading.Event()
        self._cut: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._work, name="conveyor-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Blocks until the thread is gone: a blink, and a little more while the store is away."""
        self._ends.set()
        if self._cut is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._cut()
        self._thread.join()

    def _work(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._beat())

    async def _beat(self) -> None:
        loop, beating = asyncio.get_running_loop(), asyncio.current_task()
        assert beating is not None

        def cut_soon() -> None:
            loop.call_later(CUT_S, beating.cancel)

        self._cut = lambda: loop.call_soon_threadsafe(cut_soon)
        store = await self._open()
        try:
            if store is not None:
                await keep_alive(store, self._owner, ends=self._ends, on_lost=self._on_lost)
        finally:
            if store is not None:
                await store.close()

    async def _open(self) -> Store | None:
        """As soon as it lets itself be opened; None if we are to end."""
        store = self._make_store()
        while not self._ends.is_set():
            with contextlib.suppress(StoreError):
                await store.open()
                return store
            await store.clock.sleep(SWEEP_S)
        return None


async def keep_alive(store: Store, owner: int, *, ends: threading.Event, on_lost: Callable[[], None]) -> None:
    """Renew one owner every `HEARTBEAT_S` and sweep every `SWEEP_S`, until `ends` is set.

    By the store's own time, which goes on while the machine sleeps: a sweep before the renewal would bury the sleeper.
    And after a store that was away for longer than a lease, others must come to renew theirs first.
    """
    renewed_at = store.clock.now_ms()
    sweep_from = 0
    while not ends.is_set():
        with contextlib.suppress(StoreError):  # the next beat tries again; the lease is three beats long
            if store.clock.now_ms() - renewed_at >= HEARTBEAT_S * 1000:
                if await store.renew_owners([owner]):
                    on_lost()
                    return
                now = store.clock.now_ms()
                if now - renewed_at > OWNER_LEASE_MS:
                    sweep_from = now + OWNER_LEASE_MS
                renewed_at = now
            if store.clock.now_ms() >= sweep_from:
                await store.sweep()
        await asyncio.get_running_loop().run_in_executor(None, ends.wait, SWEEP_S)
