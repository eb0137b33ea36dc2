"""The one way from code that is not async into an app: a plain script, or a handler that runs in a thread."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures.thread import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from conveyor.model.errors import InvalidSettingError
from conveyor.store.joining import Caller

T = TypeVar("T")


class App(Protocol):
    """What a portal needs of an app."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Where it is open."""
        ...

    async def close(self) -> None: ...


class _Here(ThreadPoolExecutor):
    """Calls at once, in the thread that asks: while the interpreter ends, other executors refuse."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        try:
            answer.set_result(function(*arguments, **options))
        except Exception as error:  # noqa: BLE001  # raised where it is awaited
            answer.set_exception(error)
        return answer


class Portal:
    """Runs coroutines in the app's own event loop if it has one, else in a loop of the portal's, in a thread."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Block until the coroutine is done; what it raises is raised here."""
        if asyncio._get_running_loop() is not None:
            coroutine.close()
            raise InvalidSettingError("run_sync", "called on an event loop", "it would block it", hint="use `await`")
        loop = self._app.loop
        if loop is None or not loop.is_running():
            loop = self._own_loop()
        caller = Caller()
        return caller.wait(asyncio.run_coroutine_threadsafe(caller.attend(coroutine), loop))

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():  # a fork copies the loop, and not its thread
                self._pid = os.getpid()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="conveyor-portal", daemon=True)
                self._thread.start()
                atexit.register(self._close)
            return self._loop

    def _close(self) -> None:
        if self._loop is None or self._pid != os.getpid():
            return
        if self._app.loop is self._loop:
            self._loop.set_default_executor(_Here())
            asyncio.run_coroutine_threadsafe(self._app.close(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(timeout=10)
        if not self._loop.is_running():
            self._loop.close()
