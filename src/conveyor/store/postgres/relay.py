"""After a send in a user's transaction: look into the outbox until that has most likely ended.

No driver says when its user commits, and a NOTIFY inside the transaction would make every such COMMIT of the database
wait for the sync of the one before (docs/decisions/0012). So the process that sent looks soon, and then ever more
seldom; what it misses is found by the sweep of any process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from conveyor.model.clock import SystemClock
from conveyor.model.errors import StoreError

FIRST_S: Final = 0.004
LAST_S: Final = 1.0
"""By then it is the sweep's."""
_SLOWER: Final = 1.6


class Relay:
    """`carry` moves what is there."""

    def __init__(self, carry: Callable[[], Awaitable[object]]) -> None:
        self._carry = carry
        self._patience = SystemClock()  # users end their transactions in real time
        self._is_expecting = False
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def expect(self) -> None:
        """A transaction of this process has something for us. From any thread and event loop."""
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._is_expecting = True
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._work())

    async def close(self) -> None:
        """One last look."""
        task, self._task = self._task, None
        if task is None or task.done():
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with contextlib.suppress(TimeoutError):  # a server that is away is not waited for
            async with asyncio.timeout(LAST_S):
                await self._look()

    async def _work(self) -> None:
        pause_s = FIRST_S
        while self._is_expecting or pause_s < LAST_S:
            if self._is_expecting:
                self._is_expecting, pause_s = False, FIRST_S
            await self._patience.sleep(pause_s)
            await self._look()
            pause_s *= _SLOWER

    async def _look(self) -> None:
        with contextlib.suppress(StoreError):
            await self._carry()
