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

HEARTBEAT_S: Final = 5.0
SWEEP_S: Final = 1.0


class Heartbeat:
    """A thread with a store of its own; `on_lost` is called in it when the owner was reaped by somebody."""

    def __init__(self, make_store: Callable[[], Store], owner: int, *, on_lost: Callable[[], None]) -> None:
        self._make_store = make_store
        self._owner = owner
        self._on_lost = on_lost
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, name="conveyor-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Blocks until the thread is gone."""
        self._ends.set()
        self._thread.join()

    def _work(self) -> None:
        asyncio.run(self._beat())

    async def _beat(self) -> None:
        store = self._make_store()
        await store.open()
        try:
            await keep_alive(store, self._owner, ends=self._ends, on_lost=self._on_lost)
        finally:
            await store.close()


async def keep_alive(store: Store, owner: int, *, ends: threading.Event, on_lost: Callable[[], None]) -> None:
    """Renew one owner every `HEARTBEAT_S` and sweep every `SWEEP_S`, until `ends` is set.

    By the store's own time, which goes on while the machine sleeps: a sweep before the renewal would bury the sleeper.
    """
    renewed_at = store.clock.now_ms()
    while not ends.is_set():
        with contextlib.suppress(StoreError):  # the next beat tries again; the lease is three beats long
            if store.clock.now_ms() - renewed_at >= HEARTBEAT_S * 1000:
                if await store.renew_owners([owner]):
                    on_lost()
                    return
                renewed_at = store.clock.now_ms()
            await store.sweep()
        await asyncio.get_running_loop().run_in_executor(None, ends.wait, SWEEP_S)
