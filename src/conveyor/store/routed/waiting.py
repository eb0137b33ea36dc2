"""How a part of a routed store comes up: waited for only so long, with those who want to be woken already at the
door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from conveyor.model.errors import StoreError
from conveyor.store.protocol import Store, Wake


class Subscriber:
    """Somebody who wants to be woken, perhaps before there is a store to listen to."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._end: Callable[[], None] | None = None

    def listen(self, store: Store) -> None:
        if self._end is None:
            self._end = store.subscribe(self._wake)

    def end(self) -> None:
        if self._end is not None:
            self._end()
            self._end = None


async def waited(task: asyncio.Future[Any], seconds: float | None = None) -> bool:
    """Whether it is done by then. If we are cancelled, so is it, and has come to its end."""
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    return bool(done)


def problem_of(opening: asyncio.Task[None]) -> StoreError | None:
    """Why it could not be opened; what is no refusal of the store's is raised."""
    problem = opening.exception()
    if problem is None or isinstance(problem, StoreError):
        return problem
    raise problem
