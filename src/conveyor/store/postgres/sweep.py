"""What time alone makes due, at most `SWEEP_ROWS_MAX` rows of each kind a transaction."""

from __future__ import annotations

from typing import Final

from conveyor.model.duration import HOUR_MS
from conveyor.model.group import GROUP_MARK, MemberState
from conveyor.model.verdict import DeadReason
from conveyor.store.groups import MemberEnd
from conveyor.store.postgres import ageing, jobs, keys, leases, outbox, owners, rates
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.dead import bury
from conveyor.store.postgres.retaining import date_jobs, prune, read_policies
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.records import SWEEP_ROWS_MAX, Swept

RECEIPT_MS: Final = HOUR_MS
_OF_A_PURGED_LANE: Final = (
    "drop_purged_keyed", "drop_purged_dedupe", "drop_purged_dead", "drop_line", "drop_called", "drop_purged",
)  # fmt: skip


async def sweep(tx: Transaction, marks: outbox.Marks) -> Swept:
    """One process at a time: whoever finds another at it has nothing to do."""
    alone = await tx.row("lock_sweep")
    if alone is None or not alone[0]:
        return Swept()
    carried = await outbox.carry(tx, marks, limit=SWEEP_ROWS_MAX)
    for row in tx.catalog.rows.values():
        await tx.run("fold_counters", row.lane)
    for row in list(tx.catalog.rows.values()):
        await rates.end_stale_rests(tx, row)
    policies = await read_policies(tx)
    return Swept(
        dated_jobs=await date_jobs(tx, policies),
        owners=await owners.reap_expired(tx),
        expired_leases=await leases.expire_pulled(tx, limit=SWEEP_ROWS_MAX),
        expired_messages=await _expire_messages(tx),
        purged_messages=await _clear_purged(tx),
        dedupe_keys=await _sweep_dedupe(tx),
        receipts=await tx.run("sweep_receipts", tx.now - RECEIPT_MS, SWEEP_ROWS_MAX),
        kv_entries=await tx.run("sweep_kv", tx.now, SWEEP_ROWS_MAX),
        rates=await tx.run("sweep_rates", tx.now, SWEEP_ROWS_MAX),
        jobs=await jobs.sweep_jobs(tx),
        lifted=sum([await ageing.lift_aged(tx, row) for row in list(tx.catalog.rows.values())]),
        **await prune(tx, policies),
        carried=carried,
    )


async def _sweep_dedupe(tx: Transaction) -> int:
    """As jobs, but that it begins where the last one ended also when it takes few, as it mostly does; and now and then
    at the very head, since a message that outlived its key's window leaves it behind that place."""
    since, over = tx.marks.begin_dedupe(), 0
    for place in (since, 0) if since else (0,):
        found = await tx.row("sweep_dedupe", place, tx.now, SWEEP_ROWS_MAX)
        assert found is not None, "a count has a row"
        over, tx.marks.dedupe_over = found
        if over:
            break
    return over


async def _expire_messages(tx: Transaction) -> int:
    """T10: READY longer than the queue retains."""
    left = SWEEP_ROWS_MAX
    for row in list(tx.catalog.rows.values()):
        for shelf in (keys.OPEN, keys.SUSPECT, keys.BLOCKED):
            for priority in row.priorities:
                left -= await _expire_level(tx, row, shelf, priority, left)
                if left <= 0:
                    return SWEEP_ROWS_MAX
    return SWEEP_ROWS_MAX - left


async def _expire_level(tx: Transaction, row: QueueRow, shelf: int, priority: int, limit: int) -> int:
    if row.gates_keys:
        await tx.lock_lane(row.lane)
    aged = await tx.rows("aged_ready", row.lane, shelf, priority, tx.now - row.settings.retention_ms, limit)
    for seq, *_ in aged:
        await _expire_one(tx, row, int(seq), priority)
    return len(aged)


async def _expire_one(tx: Transaction, row: QueueRow, seq: int, priority: int) -> None:
    """Where it lies is read anew: the one before may have been the head of its key, and have moved it."""
    place = await tx.row("read_place", seq)
    assert place is not None, "a ready message has a row"
    found = await tx.row("find_ready", row.lane, priority, place[1], seq)
    assert found is not None, "an aged message is ready"
    await tx.run("leave_ready", row.lane, found[0], priority, place[1], seq)
    await bury(tx, row, seq, DeadReason.EXPIRED, claims=found[1], releases=found[2])


async def _clear_purged(tx: Transaction) -> int:
    cleared = 0
    for (lane,) in await tx.rows("purged_lanes"):
        seqs = await tx.rows("leave_purged", lane, SWEEP_ROWS_MAX - cleared)
        seqs += await tx.rows("purged_leased", lane, SWEEP_ROWS_MAX - cleared - len(seqs))
        for id, headers in await tx.rows("delete_messages", [seq for (seq,) in seqs], GROUP_MARK):
            tx.end_member(id, headers, MemberEnd(MemberState.CANCELLED))
        cleared += len(seqs)
        if cleared >= SWEEP_ROWS_MAX:
            return cleared
        for name in _OF_A_PURGED_LANE:
            await tx.run(name, lane)
    return cleared
