"""Ordered keys and per-key concurrency. Touched only where the consumer gates keys.

A message that may not go yet is found by a claim, moved to the shelf of the blocked, and put back when its key has
room: so a claim never wades through a long queue behind one key.
"""

from __future__ import annotations

from conveyor.model.settings import ConsumerSettings
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.transaction import Transaction

OPEN, SUSPECT, BLOCKED = 0, 1, 2  # shelves of `ready`
_WAITING, _LEASED, _BLOCKED = 0, 1, 2  # places of `keyed`


async def add_key(tx: Transaction, row: QueueRow, key: str, seq: int, priority: int, ready_at: int) -> None:
    """A message with a key has come to a queue that gates keys."""
    await tx.run("add_keyed", row.lane, key, seq, priority, ready_at)


async def may_go(tx: Transaction, row: QueueRow, consumer: ConsumerSettings, key: str, seq: int) -> bool:
    """Whether a claim may take this message now. A message of the key that was sent beside a later one may be committed
    after that one was leased: so an ordered key is asked for both."""
    leased = await tx.row("count_leased_of_key", row.lane, key)
    assert leased is not None
    if int(leased[0]) >= consumer.key_limit:
        return False
    if not consumer.ordered:
        return True
    first = await tx.row("first_of_key", row.lane, key)
    return first is None or first[0] == seq


async def note_leased(tx: Transaction, row: QueueRow, key: str, seq: int) -> None:
    await tx.run("place_keyed", _LEASED, row.lane, key, seq)


async def note_left(tx: Transaction, row: QueueRow, left: list[tuple[str, int]]) -> None:
    """These were about to be leased, but their batch is not open yet."""
    for key, seq in left:
        await tx.run("place_keyed", _WAITING, row.lane, key, seq)


async def block(tx: Transaction, row: QueueRow, key: str, seq: int, priority: int, ready_at: int) -> None:
    """Put a message aside until its key has room."""
    await tx.run("block_keyed", priority, ready_at, row.lane, key, seq)
    await tx.run("move_shelf", BLOCKED, row.lane, OPEN, priority, ready_at, seq)


async def end_turn(tx: Transaction, row: QueueRow, key: str, seq: int) -> None:
    """A message of the key is ready again: it keeps its place, and another may have room."""
    await tx.run("place_keyed", _WAITING, row.lane, key, seq)
    await _promote(tx, row, key)


async def drop_key(tx: Transaction, row: QueueRow, key: str, seq: int) -> None:
    """A message of the key is final, or has left the queue."""
    await tx.run("drop_keyed", row.lane, key, seq)
    await _promote(tx, row, key)


async def _promote(tx: Transaction, row: QueueRow, key: str) -> None:
    seq = await _next_blocked(tx, row, key)
    if seq is None:
        return
    place = await tx.row("read_place", seq)
    assert place is not None, "a blocked message has a row"
    await tx.run("place_keyed", _WAITING, row.lane, key, seq)
    await tx.run("move_shelf", OPEN, row.lane, BLOCKED, place[2], place[1], seq)
    tx.wake(row)


async def _next_blocked(tx: Transaction, row: QueueRow, key: str) -> int | None:
    """Whose turn it is, if it was put aside: the first of an ordered key, else the first in the order of claims."""
    if row.consumer is not None and row.consumer.ordered:
        first = await tx.row("first_of_key", row.lane, key)
        return first[0] if first is not None and first[1] == _BLOCKED else None
    blocked = await tx.row("first_blocked_of_key", row.lane, key)
    return None if blocked is None else blocked[0]


async def regate(tx: Transaction, row: QueueRow, before: ConsumerSettings | None) -> None:
    """The consumer's settings changed: begin, change or end the gating of keys for what lies in the queue."""
    was = before is not None and before.gates_keys
    if was:
        await tx.run("unblock_lane", row.lane)
        await tx.run("drop_keyed_lane", row.lane)
    if row.gates_keys:
        await tx.run("gate_ready_keys", row.lane)
        await tx.run("gate_leased_keys", row.lane)
    tx.wake(row)
