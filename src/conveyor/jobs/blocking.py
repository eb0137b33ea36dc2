"""Steps for a job's function that is not async: `context.blocking.step(...)`. What a step runs, it runs in the
function's own thread or process; the store is reached through the app's event loop."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, overload

from conveyor.jobs.kept import reader_of
from conveyor.jobs.steps import ABSENT, Desk, Steps
from conveyor.model.duration import Duration

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class BlockingSteps:
    """As the methods of `JobContext` of the same names, which say what they do and raise; these wait."""

    __slots__ = ("_desk", "_steps")

    def __init__(self, desk: Desk, steps: Steps) -> None:
        self._desk = desk
        self._steps = steps

    @overload
    def step(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def step(self, name: str, function: Callable[..., Any], /, *args: Any, type: type[T], **kwargs: Any) -> T: ...

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, type: Any = None, **kwargs: Any) -> Any:
        reader = reader_of(name, function, type)
        found = self._desk.wait_for(self._steps.look(name, reader))
        if found is not ABSENT:
            return found
        began_at = self._steps.now()
        value = function(*args, **kwargs)
        if inspect.isawaitable(value):
            value = self._desk.wait_for(_awaited(value))
        return self._desk.wait_for(self._steps.keep(name, reader, began_at, value))

    def sleep(self, name: str, duration: Duration) -> None:
        self._desk.wait_for(self._steps.sleep(name, duration))

    @overload
    def wait_for_event(self, name: str, *, timeout: Duration = "1d") -> Any: ...

    @overload
    def wait_for_event(self, name: str, *, timeout: Duration = "1d", type: type[T]) -> T: ...

    def wait_for_event(self, name: str, *, timeout: Duration = "1d", type: Any = None) -> Any:
        return self._desk.wait_for(self._steps.wait(name, timeout, type))


async def _awaited(value: Awaitable[T]) -> T:
    return await value
