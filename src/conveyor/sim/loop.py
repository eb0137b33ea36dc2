"""An event loop without a world: its time is a number, its next step is drawn by lot, and its tasks belong to
processes that can be killed or stopped between two steps."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import heapq
import warnings
from collections.abc import Callable, Coroutine, Iterable
from enum import Enum
from random import Random
from typing import Any, Final, TypeVar

T = TypeVar("T")

EPOCH_MS: Final = 1_767_225_595_000
"""A few seconds before the first minute, in which every schedule ticks."""
STEPS_WITHOUT_TIME_MAX: Final = 200_000
"""So many steps in one moment are a loop that runs in circles."""


class Life(Enum):
    """What the kernel lets a process do."""

    RUNNING = "running"
    STOPPED = "stopped"
    DEAD = "dead"


class WorldStuckError(AssertionError):
    """Nothing can happen any more, or nothing but the same."""


class SimProcess:
    """A group of tasks that lives and dies together; `number` is its pid."""

    def __init__(self, loop: SimLoop, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.life = Life.RUNNING
        self.is_ghost = False
        """The world is over; what still runs only tidies up."""
        self.troubled_at = -1e9
        """When it was last stopped, or the store last refused it."""
        self.parked: list[asyncio.Handle] = []
        self.on_death: list[Callable[[], None]] = []
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)
        self._loop = loop

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of this process, which must not end by an exception."""
        task = self._loop.create_task(work, context=self.context.copy())
        task.add_done_callback(self._look_at)
        return task

    def _look_at(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and not self.is_ghost and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": f"{self.name} ends", "exception": error})

    def call_soon(self, function: Callable[..., object], *arguments: object) -> None:
        """Run a function as this process, if it lives."""
        if self.life is not Life.DEAD:
            self._loop.call_soon(function, *arguments, context=self.context.copy())

    def kill(self) -> None:
        """SIGKILL: nothing of it ever runs again, no `finally` either."""
        if self.life is Life.DEAD:
            return
        self.life = Life.DEAD
        for tell in self.on_death:
            tell()

    def stop(self) -> None:
        """SIGSTOP: the clock goes on without it."""
        if self.life is Life.RUNNING:
            self.life = Life.STOPPED

    def go_on(self) -> None:
        """SIGCONT."""
        if self.life is Life.STOPPED:
            self.life = Life.RUNNING
            self.troubled_at = self._loop.time()
            self._loop.take_back(self.parked)
            self.parked = []


_PROCESS: contextvars.ContextVar[SimProcess | None] = contextvars.ContextVar("process", default=None)


def current_process() -> SimProcess | None:
    """The process whose step this is; None: the world's own."""
    return _PROCESS.get()


class SimLoop(asyncio.BaseEventLoop):
    """Takes one step at a time, any of those that are ready; when none is, time jumps to the next timer."""

    _ready: collections.deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._chance = chance
        self._now = 0.0
        self._clock_resolution = 1e-9
        self._since_time = 0
        self.steps = 0
        self.tasks: dict[asyncio.Task[Any], SimProcess | None] = {}
        """Held, so that what a dead process was doing is not ended by the garbage collector."""
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now

    def take_back(self, handles: Iterable[asyncio.Handle]) -> None:
        """Steps of a process that goes on."""
        self._ready.extend(handles)

    def run_in_executor(  # type: ignore[override]  # as much of it as worlds need
        self, _executor: object, function: Callable[..., T], *arguments: Any
    ) -> asyncio.Future[T]:
        """There are no threads here: it runs at once."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001 it is the caller's
            future.set_exception(error)
        return future

    def add_reader(self, *_: Any) -> None:  # type: ignore[override]  # nobody heeds what it is given
        """There are no descriptors here."""

    def remove_reader(self, fd: object) -> bool:
        return False

    def add_signal_handler(self, *_: Any) -> None:  # type: ignore[override]  # the same
        """There are no signals here."""

    def remove_signal_handler(self, sig: int) -> bool:
        return False

    def bury(self) -> None:
        """At the end of the world: all that is left is cancelled, and may tidy up; what will not is forgotten."""
        self.set_exception_handler(lambda *_: None)
        for _ in range(10):
            left = [task for task in self.tasks if not task.done()]
            if not left:
                break
            for task in left:
                if (process := self.tasks[task]) is not None:
                    process.is_ghost = True
                    process.life = Life.RUNNING
                    self.take_back(process.parked)
                    process.parked = []
                task.cancel()
            with contextlib.suppress(WorldStuckError):
                self.run_until_complete(_wait(left))
        with warnings.catch_warnings(action="ignore"):  # what would begin as it is closed is never awaited
            for task in list(self.tasks):
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch
                with contextlib.suppress(BaseException):
                    task.get_coro().close()
        self.tasks.clear()
        self._ready.clear()
        self._scheduled.clear()
        self.close()

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **parts: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **parts)
        context = parts.get("context")
        self.tasks[task] = _PROCESS.get() if context is None else context.get(_PROCESS)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)
        if not task.cancelled():
            task.exception()

    def _run_once(self) -> None:
        self._collect()
        at = int(self._chance.random() * len(self._ready))
        self._ready.rotate(-at)
        handle = self._ready.popleft()
        if handle.cancelled():
            return
        process = handle._context.get(_PROCESS)  # type: ignore[attr-defined]  # no other way to it
        if process is None or process.life is Life.RUNNING:
            self.steps += 1
            handle._run()
        elif process.life is Life.STOPPED:
            process.parked.append(handle)

    def _collect(self) -> None:
        """What is due, after a jump if nothing is."""
        scheduled = self._scheduled
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)
        self._since_time += 1
        if not self._ready:
            if not scheduled:
                raise WorldStuckError("nothing is left to happen")
            self._now = max(self._now, scheduled[0].when())
            self._since_time = 0
        elif self._since_time > STEPS_WITHOUT_TIME_MAX:
            raise WorldStuckError(f"{STEPS_WITHOUT_TIME_MAX:,} steps, and no time has passed")
        while scheduled and scheduled[0].when() <= self._now:
            self._ready.append(heapq.heappop(scheduled))

    def _timer_handle_cancelled(self, _handle: object) -> None: ...

    def _write_to_self(self) -> None: ...

    def _process_events(self, _events: object) -> None: ...


async def _wait(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks, timeout=30)


class SimClock:
    """The `Clock` of all who live in a loop."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def now_ms(self) -> int:
        return EPOCH_MS + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
