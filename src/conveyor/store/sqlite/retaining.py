"""What has ended goes when its policy says so: a few rows of each kind in a sweep."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

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
from conveyor.store.sqlite.documents import get_document, list_documents, put_document
from conveyor.store.sqlite.transaction import Transaction
from conveyor.store.sqlite.writer import Durability, Writer


class SQLiteRetention:
    """`RetentionStore` of one file."""

    def __init__(self, live: Callable[[], Writer]) -> None:
        self._live = live

    async def look(self, kind: History, *, after: bytes | None = None) -> PassedPage:
        return await self._live().submit(lambda tx: _look(tx, kind, after), Durability.RELAXED)


def read_policies(tx: Transaction) -> Policies:
    return Policies(list_documents(tx, POLICIES, "", POLICIES_MAX, None))


def date_jobs(tx: Transaction, policies: Policies) -> int:
    """Before those that are over are taken away; how many rows were looked at."""
    document = get_document(tx, PLACES, History.JOBS)
    if document is None and not policies.says(History.JOBS):
        return 0
    place = read_place(document, policies)
    if place.is_whole and not policies.says(History.JOBS):
        return 0
    bound = place.bound(policies, tx.now)
    rows = tx.rows("dated_jobs", place.expires_at, bytes.fromhex(place.id), bound, HISTORY_ROWS_MAX)
    found = [Dated(**dict(zip(Dated.__struct_fields__, row, strict=True))) for row in rows]
    tx.run_many("date_job", redate(found, policies))
    moved = move_on(place, found)
    if moved != place or document is None:
        put_document(tx, PLACES, History.JOBS, msgspec.json.encode(moved), None)
    return len(found)


def prune(tx: Transaction, policies: Policies) -> dict[str, int]:
    """Deliveries, runs and records that are over; how many went, by the names of `Swept`."""
    oldest = tx.now - policies.shortest_ms(History.RUNS)
    return {
        "deliveries": sum(_prune_deliveries(tx, policies, queue) for (queue,) in tx.rows("delivering_queues")),
        "runs": sum(_prune_runs(tx, policies, name) for (name,) in tx.rows("aged_schedules", oldest)),
        "records": _prune_trail(tx, policies),
    }


def _prune_deliveries(tx: Transaction, policies: Policies, queue: str) -> int:
    keep = policies.keep_ms(History.DELIVERIES, queue)
    return 0 if keep is None else tx.run("sweep_deliveries", queue, tx.now - keep, HISTORY_ROWS_MAX)


def _prune_runs(tx: Transaction, policies: Policies, schedule: str) -> int:
    keep = policies.keep_ms(History.RUNS, schedule)
    if keep is None:
        return 0
    before = tx.now - keep
    return tx.run("sweep_runs", schedule, before, before - UNFINISHED_MS, HISTORY_ROWS_MAX)


def _prune_trail(tx: Transaction, policies: Policies) -> int:
    keep = policies.keep_ms(History.AUDIT)
    if keep is None:
        return 0
    kind = History.AUDIT.value
    over = until_newer(list_documents(tx, kind, "", HISTORY_ROWS_MAX + 1, None), tx.now - keep)
    if not over:
        return 0
    tx.run("drop_records", kind, over[-1].name)
    put_document(tx, TRAIL_KIND, f"{kind}.{START}", over[-1].body, None)
    return len(over)


def _look(tx: Transaction, kind: History, after: bytes | None) -> PassedPage:
    tx.flush()
    match kind:
        case History.JOBS:
            return passed_jobs(tx.rows("passed_jobs", after or b"", LOOKED_AT_MAX))
        case History.DELIVERIES:
            return passed_deliveries(tx.rows("passed_deliveries", after or b"", LOOKED_AT_MAX))
        case History.RUNS:
            return passed_runs(tx.rows("passed_runs", *read_run_key(after), LOOKED_AT_MAX))
        case History.AUDIT:
            return passed_records(list_documents(tx, kind, "", LOOKED_AT_MAX, (after or b"").decode() or None))
