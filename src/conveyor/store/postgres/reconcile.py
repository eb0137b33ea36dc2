"""What an owner holds, stated by itself after an answer was lost: it may hold more than it knows."""

from __future__ import annotations

from collections.abc import Collection

from conveyor.model.verdict import Action, Settlement
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.settle import settle
from conveyor.store.postgres.transaction import Transaction


async def reconcile(tx: Transaction, owner: int, queue: str, held: Collection[tuple[int, int]], calls: int) -> int:
    """Release the leases that are not among `held`; how many. `QueueNotFoundError`."""
    row = tx.catalog.meant(queue) or tx.catalog.get(queue)
    if await tx.row("lock_owner", owner) is None:
        return 0
    known = frozenset(held)
    orphans = [
        Settlement(seq, claim, Action.RELEASE)
        for seq, lane, claim, *_ in await tx.rows("held_by_owner", owner)
        if lane == row.lane and (seq, claim) not in known
    ]
    await settle(tx, owner, orphans, {})
    await _state_slots(tx, row, owner, calls)
    return len(orphans)


async def _state_slots(tx: Transaction, row: QueueRow, owner: int, calls: int) -> None:
    found = await tx.row("read_slots", row.lane, owner)
    if calls == (0 if found is None else found[0]):
        return
    await tx.run("free_slots", row.lane, owner)
    if calls:
        await tx.run("take_slots", row.lane, owner, calls)
    tx.wake(row)
