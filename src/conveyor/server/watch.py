"""Ends what takes too long: one timer for all requests, since most of them are over before any could ring."""

from __future__ import annotations

import asyncio
from typing import Final

from conveyor.server.endpoint import Call

LOOKS: Final = 60
"""So often within the time that a request may take."""


class Watch:
    """Cancels the task of a call that is still there after `seconds`, and says so in `call.is_late`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[Call, tuple[asyncio.Task[object], float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Call) -> None:
        """From now on."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None, "a request is a task"
        self._running[call] = (task, loop.time())
        if self._timer is None:
            self._timer = loop.call_later(self._seconds / LOOKS, self._look, loop)

    def drop(self, call: Call) -> None:
        """It is over, or was not watched."""
        self._running.pop(call, None)

    def forgive(self) -> None:
        """The running task goes on to say that it was ended."""
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """The oldest come first."""
        self._timer = None
        before = loop.time() - self._seconds
        for call, (task, since) in self._running.items():
            if since > before:
                break
            if not call.is_late:
                call.is_late = True
                task.cancel()
        if self._running:
            self._timer = loop.call_later(self._seconds / LOOKS, self._look, loop)
