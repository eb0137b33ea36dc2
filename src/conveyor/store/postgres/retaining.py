"""What has ended goes when its policy says so: a few rows of each kind in a sweep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from conveyor.store.postgres.documents import get_document, list_documents, put_document
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.records import HISTORY_ROWS_MAX, TRAIL_KIND
from conveyor.store.retaining import (
    LOOKED_AT_MAX,
    PLACES,
    POLICIES,
    POLICIES_MAX,
    START,
    UNFINISHED_MS,
    Dated,
    History,
    PassedPage,
    Policies,
    move_on,
    passed_deliveries,
    passed_jobs,
    passed_records,
    passed_runs,
    read_place,
    read_run_key,
    redate,
    until_newer,
)

T = TypeVar("T")


class Run(Protocol):
    """How the store runs an operation."""

    async def __call__(
        self, work: Callable[[Transaction], Awaitable[T]], durability: Durability = Durability.SYNCED
    ) -> T: ...


class PostgresRetention:
    """`RetentionStore` of one schema."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def look(self, kind: History, *, after: bytes | None = None) -> PassedPage:
        return await self._run(lambda tx: _look(tx, kind, after), Durability.RELAXED)


async def read_policies(tx: Transaction) -> Policies:
    return Policies(await list_documents(tx, POLICIES, "", POLICIES_MAX, None))


async def date_jobs(tx: Transaction, policies: Policies) -> int:
    """Before those that are over are taken away; how many rows were looked at."""
    document = await get_document(tx, PLACES, History.JOBS)
    if document is None and not policies.says(History.JOBS):
        return 0
    place = read_place(document, policies)
    if place.is_whole and not policies.says(History.JOBS):
        return 0
    bound = place.bound(policies, tx.now)
    rows = await tx.rows("dated_jobs", place.expires_at, bytes.fromhex(place.id), bound, HISTORY_ROWS_MAX)
    found = [Dated(**dict(zip(Dated.__struct_fields__, row, strict=True))) for row in rows]
    dated = redate(found, policies)
    if dated:
        await tx.run("date_jobs", [at for at, _ in dated], [id for _, id in dated])
    moved = move_on(place, found)
    if moved != place or document is None:
        await put_document(tx, PLACES, History.JOBS, msgspec.json.encode(moved), None)
    return len(found)


async def prune(tx: Transaction, policies: Policies) -> dict[str, int]:
    """Deliveries, runs and records that are over; how many went, by the names of `Swept`."""
    oldest = tx.now - policies.shortest_ms(History.RUNS)
    return {
        "deliveries": sum(
            [await _prune_deliveries(tx, policies, queue) for (queue,) in await tx.rows("delivering_queues")]
        ),
        "runs": sum([await _prune_runs(tx, policies, name) for (name,) in await tx.rows("aged_schedules", oldest)]),
        "records": await _prune_trail(tx, policies),
    }


async def _prune_deliveries(tx: Transaction, policies: Policies, queue: str) -> int:
    keep = policies.keep_ms(History.DELIVERIES, queue)
    return 0 if keep is None else await tx.run("sweep_deliveries", queue, tx.now - keep, HISTORY_ROWS_MAX)


async def _prune_runs(tx: Transaction, policies: Policies, schedule: str) -> int:
    keep = policies.keep_ms(History.RUNS, schedule)
    if keep is None:
        return 0
    before = tx.now - keep
    return await tx.run("sweep_runs", schedule, before, before - UNFINISHED_MS, HISTORY_ROWS_MAX)


async def _prune_trail(tx: Transaction, policies: Policies) -> int:
    keep = policies.keep_ms(History.AUDIT)
    if keep is None:
        return 0
    kind = History.AUDIT.value
    over = until_newer(await list_documents(tx, kind, "", HISTORY_ROWS_MAX + 1, None), tx.now - keep)
    if not over:
        return 0
    await tx.run("drop_records", kind, over[-1].name)
    await put_document(tx, TRAIL_KIND, f"{kind}.{START}", over[-1].body, None)
    return len(over)


async def _look(tx: Transaction, kind: History, after: bytes | None) -> PassedPage:
    await tx.flush()
    match kind:
        case History.JOBS:
            return passed_jobs(await tx.rows("passed_jobs", after or b"", LOOKED_AT_MAX))
        case History.DELIVERIES:
            return passed_deliveries(await tx.rows("passed_deliveries", after or b"", LOOKED_AT_MAX))
        case History.RUNS:
            return passed_runs(await tx.rows("passed_runs", *read_run_key(after), LOOKED_AT_MAX))
        case History.AUDIT:
            return passed_records(await list_documents(tx, kind, "", LOOKED_AT_MAX, (after or b"").decode() or None))
