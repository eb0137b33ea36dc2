"""`await job.result()` in a test where nothing runs: an error that says so, in the place of a test that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from conveyor.jobs.room import Jobs
from conveyor.jobs.waiting import Waiting
from conveyor.model.ids import MessageId
from conveyor.store.jobs import JobFound
from conveyor.store.protocol import Store

PATIENCE_S: Final = 1.0
"""Of real time, in which somebody may still begin to drain or to travel."""


class Patient(Waiting):
    """Waits for the ends of jobs as long as the kit is at work, or may soon be."""

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        super().__init__()
        self._is_busy = is_busy
        self._former: Waiting | None = None

    def begin(self, jobs: Jobs) -> None:
        self._former = jobs.use_waiting(self)

    def end(self, jobs: Jobs) -> None:
        if self._former is not None:
            jobs.use_waiting(self._former)

    async def wait(self, store: Store, id: MessageId, most_ms: int | None) -> JobFound | None:
        waiting = asyncio.create_task(super().wait(store, id, most_ms))
        try:
            while True:
                moment = store.clock.now_ms()
                done, _ = await asyncio.wait({waiting}, timeout=PATIENCE_S)
                if done:
                    return waiting.result()
                if not self._is_busy() and store.clock.now_ms() == moment:
                    problem = "nothing runs in a test unless it is told to"
                    raise AssertionError(f"job {id.hex()} is not at its end, and {problem}: `await kit.drain()` first")
        finally:
            waiting.cancel()
