"""`JobStore` of one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conveyor.model.ids import MessageId
from conveyor.model.job import ErrorGroup, JobAttempt, JobRecord
from conveyor.model.message import Draft, Sent
from conveyor.store.jobs import JobFound, JobPage, JobsAsked, Obstacles
from conveyor.store.sqlite import jobs
from conveyor.store.sqlite.settle import take_out_ready
from conveyor.store.sqlite.writer import Durability, Writer

_RELAXED = Durability.RELAXED


class SQLiteJobs:
    """Hands each operation to the writer that is there now."""

    def __init__(self, live: Callable[[], Writer]) -> None:
        self._live = live

    async def find(self, ids: Sequence[MessageId]) -> list[JobFound]:
        return await self._live().submit(lambda tx: jobs.find_jobs(tx, ids), _RELAXED)

    async def look(self, asked: JobsAsked) -> JobPage:
        return await self._live().submit(lambda tx: jobs.list_jobs(tx, asked), _RELAXED)

    async def attempts(self, id: MessageId, *, limit: int) -> list[JobAttempt]:
        return await self._live().submit(lambda tx: jobs.list_attempts(tx, id, limit), _RELAXED)

    async def errors(self, *, name: str | None, limit: int) -> list[ErrorGroup]:
        return await self._live().submit(lambda tx: jobs.group_errors(tx, name, limit), _RELAXED)

    async def beat(self, running: Sequence[JobRecord]) -> list[MessageId]:
        return await self._live().submit(lambda tx: jobs.beat_jobs(tx, running), _RELAXED)

    async def cancel(self, id: MessageId) -> JobFound | None:
        return await self._live().submit(lambda tx: jobs.cancel_job(tx, id, take_out_ready))

    async def replace(self, draft: Draft) -> Sent:
        return await self._live().submit(lambda tx: jobs.replace_job(tx, draft, take_out_ready))

    async def obstacles(self, id: MessageId) -> Obstacles:
        return await self._live().submit(lambda tx: jobs.read_obstacles(tx, id), _RELAXED)
