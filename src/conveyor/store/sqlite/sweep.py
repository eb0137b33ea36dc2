"""What time alone makes due, at most `SWEEP_ROWS_MAX` rows of each kind a transaction."""

from __future__ import annotations

from typing import Final

from conveyor.model.duration import HOUR_MS
from conveyor.model.verdict import DeadReason
from conveyor.store.records import SWEEP_ROWS_MAX, Swept
from conveyor.store.sqlite import ageing, jobs, keys, leases, owners, rates
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.dead import bury, clear
from conveyor.store.sqlite.retaining import date_jobs, prune, read_policies
from conveyor.store.sqlite.transaction import Transaction

RECEIPT_MS: Final = HOUR_MS
_OF_A_PURGED_LANE: Final = (
    "drop_purged_keyed", "drop_purged_dedupe", "drop_purged_dead", "drop_line", "drop_called", "drop_purged",
)  # fmt: skip


def sweep(tx: Transaction) -> Swept:
    tx.flush()
    for (name,) in tx.rows("list_queues"):
        rates.end_stale_rests(tx, tx.catalog.get(tx, name))
    policies = read_policies(tx)
    return Swept(
        dated_jobs=date_jobs(tx, policies),
        owners=owners.reap_expired(tx),
        expired_leases=leases.expire_pulled(tx, limit=SWEEP_ROWS_MAX),
        expired_messages=_expire_messages(tx),
        purged_messages=_clear_purged(tx),
        dedupe_keys=tx.run("sweep_dedupe", tx.now, SWEEP_ROWS_MAX),
        receipts=tx.run("sweep_receipts", tx.now - RECEIPT_MS, SWEEP_ROWS_MAX),
        kv_entries=tx.run("sweep_kv", tx.now, SWEEP_ROWS_MAX),
        rates=tx.run("sweep_rates", tx.now, SWEEP_ROWS_MAX),
        jobs=jobs.sweep_jobs(tx),
        lifted=sum([ageing.lift_aged(tx, tx.catalog.get(tx, name)) for (name,) in tx.rows("list_queues")]),
        **prune(tx, policies),
    )


def _expire_messages(tx: Transaction) -> int:
    """T10: READY longer than the queue retains."""
    left = SWEEP_ROWS_MAX
    for (name,) in tx.rows("list_queues"):
        row = tx.catalog.get(tx, name)
        for shelf in (keys.OPEN, keys.SUSPECT, keys.BLOCKED):
            for priority in row.priorities:
                left -= _expire_level(tx, row, shelf, priority, left)
                if left <= 0:
                    return SWEEP_ROWS_MAX
    return SWEEP_ROWS_MAX - left


def _expire_level(tx: Transaction, row: QueueRow, shelf: int, priority: int, limit: int) -> int:
    aged = tx.rows("aged_ready", row.lane, shelf, priority, tx.now - row.settings.retention_ms, limit)
    for seq, *_ in aged:
        _expire_one(tx, row, int(seq), priority)
    return len(aged)


def _expire_one(tx: Transaction, row: QueueRow, seq: int, priority: int) -> None:
    """Where it lies is read anew: the one before may have been the head of its key, and have moved it."""
    place = tx.row("read_place", seq)
    assert place is not None, "a ready message has a row"
    found = tx.row("find_ready", row.lane, priority, place[1], seq)
    assert found is not None, "an aged message is ready"
    tx.run("leave_ready", row.lane, found[0], priority, place[1], seq)
    bury(tx, row, seq, DeadReason.EXPIRED, claims=found[1], releases=found[2])


def _clear_purged(tx: Transaction) -> int:
    cleared = 0
    for (lane,) in tx.rows("purged_lanes"):
        seqs = [seq for (seq,) in tx.rows("purged_ready", lane, SWEEP_ROWS_MAX - cleared)]
        tx.run("leave_purged", lane, len(seqs))
        leased = tx.rows("purged_leased", lane, SWEEP_ROWS_MAX - cleared - len(seqs))
        tx.run_many("drop_lease", leased)
        for seq in [*seqs, *(seq for _, seq in leased)]:
            clear(tx, seq)
        cleared += len(seqs) + len(leased)
        if cleared >= SWEEP_ROWS_MAX:
            return cleared
        for name in _OF_A_PURGED_LANE:
            tx.run(name, lane)
    return cleared
