"""`JobStore` of one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from conveyor.model.ids import MessageId
from conveyor.model.job import ErrorGroup, JobAttempt, JobRecord
from conveyor.model.message import Draft, Sent
from conveyor.store.jobs import JobFound, JobPage, JobsAsked, Obstacles
from conveyor.store.sqlite import jobs
from conveyor.store.sqlite.settle import take_out_ready
from conveyor.store.sqlite.transaction import Transaction
from conveyor.store.sqlite.writer import Durability, Writer

T = TypeVar("T")

_RELAXED = Durability.RELAXED


class Change(Protocol):
    """How the store makes a change that somebody may watch."""

    async def __call__(self, kind: str, name: str, run: Callable[[Transaction], T]) -> T: ...


class SQLiteJobs:
    """Hands each operation to the writer that is there now."""

    def __init__(self, live: Callable[[], Writer], change: Change) -> None:
        self._live = live
        self._change = change

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
        return await self._change("job", id.hex(), lambda tx: jobs.cancel_job(tx, id, take_out_ready))

    async def replace(self, draft: Draft) -> Sent:
        return await self._live().submit(lambda tx: jobs.replace_job(tx, draft, take_out_ready))

    async def obstacles(self, id: MessageId) -> Obstacles:
        return await self._live().submit(lambda tx: jobs.read_obstacles(tx, id), _RELAXED)
