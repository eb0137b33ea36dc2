"""Lifts what has waited for long behind others of a higher priority."""

from __future__ import annotations

from conveyor.store.ageing import LIFTED_MAX, lifts_before
from conveyor.store.postgres import keys
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.transaction import Transaction


async def lift_aged(tx: Transaction, row: QueueRow) -> int:
    """How many of this queue."""
    levels = row.priorities
    if len(levels) < 2 or row.gates_keys:
        return 0
    for place, top in enumerate(levels[:-1]):
        head = await tx.row("head_of_level", row.lane, keys.OPEN, top, tx.now)
        if head is not None:
            return await _lift(tx, row, levels[place + 1 :], top, int(head[0]))
    return 0


async def _lift(tx: Transaction, row: QueueRow, below: list[int], top: int, top_ready_at: int) -> int:
    before = lifts_before(row.consumer, tx.now, top_ready_at)
    if before is None:
        return 0
    aged = []
    for level in below:
        aged += await tx.rows("aged_ready", row.lane, keys.OPEN, level, before, LIFTED_MAX)
    aged.sort(key=lambda each: (each[3], each[0]))
    for seq, shelf, priority, ready_at, claims, releases, crashes in aged[:LIFTED_MAX]:
        await tx.run("leave_ready", row.lane, shelf, priority, ready_at, seq)
        await tx.run("write_priority", top, seq)
        await tx.run("insert_ready", row.lane, shelf, top, ready_at, seq, claims, releases, crashes)
    return len(aged[:LIFTED_MAX])
