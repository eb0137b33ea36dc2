"""Waits for the ends of jobs: one look at the store for all that wait in this process."""

from __future__ import annotations

import asyncio
from typing import Final

from conveyor.model.errors import StoreClosedError, StoreError
from conveyor.model.ids import MessageId
from conveyor.model.job import FINAL
from conveyor.model.job_errors import JobNotFoundError
from conveyor.store.jobs import JobFound
from conveyor.store.protocol import Store

LOOK_S_FIRST: Final = 0.01
LOOK_S_MAX: Final = 0.25
IDS_MAX: Final = 500
"""In one look."""


class Waiting:
    """Those who wait, by store and job."""

    def __init__(self) -> None:
        self._wanted: dict[Store, dict[MessageId, list[asyncio.Future[JobFound | None]]]] = {}
        self._lookers: dict[Store, asyncio.Task[None]] = {}
        self._pause_s = LOOK_S_FIRST

    async def wait(self, store: Store, id: MessageId, most_ms: int | None) -> JobFound | None:
        """The job, once it is final; None if it is not after `most_ms`. `JobNotFoundError`."""
        found = await store.jobs.find([id])
        if not found:
            raise JobNotFoundError(id.hex())
        if found[0].state(store.clock.now_ms()) in FINAL:
            return found[0]
        if most_ms == 0:
            return None
        return await self._wait(store, id, most_ms)

    def close(self) -> None:
        """Nobody looks any more; who waits is told so: `StoreClosedError`."""
        for looker in self._lookers.values():
            looker.cancel()
        for future in [each for wanted in self._wanted.values() for waiters in wanted.values() for each in waiters]:
            if not future.done():
                future.set_exception(StoreClosedError())
        self._lookers.clear()
        self._wanted.clear()

    async def _wait(self, store: Store, id: MessageId, most_ms: int | None) -> JobFound | None:
        future: asyncio.Future[JobFound | None] = asyncio.get_running_loop().create_future()
        waiters = self._wanted.setdefault(store, {}).setdefault(id, [])
        waiters.append(future)
        self._pause_s = LOOK_S_FIRST
        if store not in self._lookers:
            self._lookers[store] = asyncio.create_task(self._look(store))
        alarm = None if most_ms is None else asyncio.create_task(_expire(store, future, most_ms))
        try:
            found = await future
        finally:
            waiters.remove(future)
            if alarm is not None:
                alarm.cancel()
        return found

    async def _look(self, store: Store) -> None:
        wanted = self._wanted[store]
        while True:
            for id in [id for id, waiters in wanted.items() if not waiters]:
                del wanted[id]
            if not wanted:
                del self._lookers[store]
                return
            await store.clock.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 1.5, LOOK_S_MAX)
            await self._look_once(store, wanted)

    async def _look_once(self, store: Store, wanted: dict[MessageId, list[asyncio.Future[JobFound | None]]]) -> None:
        ids = list(wanted)
        for start in range(0, len(ids), IDS_MAX):
            asked = ids[start : start + IDS_MAX]
            try:
                found = {each.id: each for each in await store.jobs.find(asked)}
            except StoreError:  # the next look may find it
                continue
            now = store.clock.now_ms()
            for id in asked:
                job = found.get(id)
                if job is not None and job.state(now) not in FINAL:
                    continue
                for future in wanted[id]:
                    if future.done():
                        continue
                    if job is None:
                        future.set_exception(JobNotFoundError(id.hex()))
                    else:
                        future.set_result(job)


async def _expire(store: Store, future: asyncio.Future[JobFound | None], after_ms: int) -> None:
    await store.clock.sleep(after_ms / 1000)
    if not future.done():
        future.set_result(None)
