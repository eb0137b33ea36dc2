"""What an owner holds, stated by itself after an answer was lost: it may hold more than it knows."""

from __future__ import annotations

from collections.abc import Collection

from conveyor.model.verdict import Action, Settlement
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.settle import settle
from conveyor.store.sqlite.transaction import Transaction


def reconcile(tx: Transaction, owner: int, queue: str, held: Collection[tuple[int, int]], calls: int) -> int:
    """Release the leases that are not among `held`; how many. `QueueNotFoundError`."""
    row = tx.catalog.meant(tx, queue) or tx.catalog.get(tx, queue)
    if tx.row("find_owner", owner) is None:
        return 0
    known = frozenset(held)
    orphans = [
        Settlement(seq, claim, Action.RELEASE)
        for seq, lane, claim, *_ in tx.rows("leases_of_owner", owner)
        if lane == row.lane and (seq, claim) not in known
    ]
    settle(tx, owner, orphans, {})
    _state_slots(tx, row, owner, calls)
    return len(orphans)


def _state_slots(tx: Transaction, row: QueueRow, owner: int, calls: int) -> None:
    found = tx.row("read_slots", row.lane, owner)
    if calls == (0 if found is None else found[0]):
        return
    tx.run("free_slots", row.lane, owner)
    if calls:
        tx.run("take_slots", row.lane, owner, calls)
    tx.wake(row)
