"""The one way from code that is not async into an app: a plain script, or a handler that runs in a thread."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from conveyor.model.errors import InvalidSettingError

if TYPE_CHECKING:
    from conveyor.app import Conveyor

T = TypeVar("T")


class Portal:
    """Runs coroutines in the app's own event loop if it has one, else in a loop of the portal's, in a thread."""

    def __init__(self, app: Conveyor) -> None:
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Block until the coroutine is done; what it raises is raised here."""
        loop = self._app.loop or self._own_loop()
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is loop:
            coroutine.close()
            raise InvalidSettingError("run_sync", "called on the event loop", "it would wait for itself", hint="use `await`")
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="conveyor-portal", daemon=True).start()
                atexit.register(self._close)
            return self._loop

    def _close(self) -> None:
        assert self._loop is not None
        if self._app.loop is self._loop:
            asyncio.run_coroutine_threadsafe(self._app.close(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
