"""`JobStore` of one schema."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from conveyor.model.ids import MessageId
from conveyor.model.job import ErrorGroup, JobAttempt, JobRecord
from conveyor.model.message import Draft, Sent
from conveyor.store.jobs import JobFound, JobPage, JobsAsked, Obstacles
from conveyor.store.postgres import jobs, outbox
from conveyor.store.postgres.append import Depths
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.settle import take_out_ready
from conveyor.store.postgres.transaction import Transaction

_RELAXED = Durability.RELAXED


T = TypeVar("T")


class Run(Protocol):
    """How the store runs an operation."""

    async def __call__(
        self, work: Callable[[Transaction], Awaitable[T]], durability: Durability = Durability.SYNCED
    ) -> T: ...


class Change(Protocol):
    """How the store makes a change that somebody may watch."""

    async def __call__(self, kind: str, name: str, run: Callable[[Transaction], Awaitable[T]]) -> T: ...


class PostgresJobs:
    """Runs each operation in a transaction of its own."""

    def __init__(self, run: Run, change: Change, depths: Depths) -> None:
        self._run = run
        self._change = change
        self._depths = depths

    async def find(self, ids: Sequence[MessageId]) -> list[JobFound]:
        return await self._run(lambda tx: _find(tx, ids), _RELAXED)

    async def look(self, asked: JobsAsked) -> JobPage:
        return await self._run(lambda tx: jobs.list_jobs(tx, asked), _RELAXED)

    async def attempts(self, id: MessageId, *, limit: int) -> list[JobAttempt]:
        return await self._run(lambda tx: jobs.list_attempts(tx, id, limit), _RELAXED)

    async def errors(self, *, name: str | None, limit: int) -> list[ErrorGroup]:
        return await self._run(lambda tx: jobs.group_errors(tx, name, limit), _RELAXED)

    async def beat(self, running: Sequence[JobRecord]) -> list[MessageId]:
        return await self._run(lambda tx: jobs.beat_jobs(tx, running), _RELAXED)

    async def cancel(self, id: MessageId) -> JobFound | None:
        return await self._change("job", id.hex(), lambda tx: jobs.cancel_job(tx, id, take_out_ready))

    async def replace(self, draft: Draft) -> Sent:
        return await self._run(lambda tx: jobs.replace_job(tx, draft, take_out_ready, self._depths))

    async def obstacles(self, id: MessageId) -> Obstacles:
        return await self._run(lambda tx: jobs.read_obstacles(tx, id), _RELAXED)


async def _find(tx: Transaction, ids: Sequence[MessageId]) -> list[JobFound]:
    """What users' own transactions have sent is carried to its queue, if it is asked for."""
    found = await jobs.find_jobs(tx, ids)
    if len(found) < len(set(ids)):
        await outbox.carry_all(tx)
        found = await jobs.find_jobs(tx, ids)
    return found
