"""Ordered keys and per-key concurrency. Touched only where the consumer gates keys.

A message that may not go yet is found by a claim, moved to the shelf of the blocked, and put back when its key has
room: so a claim never wades through a long queue behind one key.
"""

from __future__ import annotations

from conveyor.model.settings import ConsumerSettings
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.transaction import Transaction

OPEN, SUSPECT, BLOCKED = 0, 1, 2  # shelves of `ready`
_WAITING, _LEASED, _BLOCKED = 0, 1, 2  # places of `keyed`


def add_key(tx: Transaction, row: QueueRow, key: str, seq: int, priority: int, ready_at: int) -> None:
    """A message with a key has come to a queue that gates keys."""
    tx.run("add_keyed", row.lane, key, seq, priority, ready_at)


def may_go(tx: Transaction, row: QueueRow, consumer: ConsumerSettings, key: str, seq: int) -> bool:
    """Whether a claim may take this message now."""
    if consumer.ordered:
        first = tx.row("first_of_key", row.lane, key)
        if first is not None and first[0] != seq:
            return False  # and the first may be a redriven one, while a later one is leased
    leased = tx.row("count_leased_of_key", row.lane, key)
    assert leased is not None
    return int(leased[0]) < consumer.key_limit


def note_leased(tx: Transaction, row: QueueRow, key: str, seq: int) -> None:
    tx.run("place_keyed", _LEASED, row.lane, key, seq)


def note_left(tx: Transaction, row: QueueRow, left: list[tuple[str, int]]) -> None:
    """These were about to be leased, but their batch is not open yet."""
    for key, seq in left:
        tx.run("place_keyed", _WAITING, row.lane, key, seq)


def block(tx: Transaction, row: QueueRow, key: str, seq: int, priority: int, ready_at: int) -> None:
    """Put a message aside until its key has room."""
    tx.run("block_keyed", priority, ready_at, row.lane, key, seq)
    tx.run("move_shelf", BLOCKED, row.lane, OPEN, priority, ready_at, seq)


def end_turn(tx: Transaction, row: QueueRow, key: str, seq: int) -> None:
    """A message of the key is ready again: it keeps its place, and another may have room."""
    tx.run("place_keyed", _WAITING, row.lane, key, seq)
    _promote(tx, row, key)


def drop_key(tx: Transaction, row: QueueRow, key: str, seq: int) -> None:
    """A message of the key is final, or has left the queue."""
    tx.run("drop_keyed", row.lane, key, seq)
    _promote(tx, row, key)


def _promote(tx: Transaction, row: QueueRow, key: str) -> None:
    seq = _next_blocked(tx, row, key)
    if seq is None:
        return
    place = tx.row("read_place", seq)
    assert place is not None, "a blocked message has a row"
    tx.run("place_keyed", _WAITING, row.lane, key, seq)
    tx.run("move_shelf", OPEN, row.lane, BLOCKED, place[2], place[1], seq)
    tx.wake(row)


def _next_blocked(tx: Transaction, row: QueueRow, key: str) -> int | None:
    """Whose turn it is, if it was put aside: the first of an ordered key, else the first in the order of claims."""
    if row.consumer is not None and row.consumer.ordered:
        first = tx.row("first_of_key", row.lane, key)
        return first[0] if first is not None and first[1] == _BLOCKED else None
    blocked = tx.row("first_blocked_of_key", row.lane, key)
    return None if blocked is None else blocked[0]


def regate(tx: Transaction, row: QueueRow, before: ConsumerSettings | None) -> None:
    """The consumer's settings changed: begin, change or end the gating of keys for what lies in the queue."""
    tx.flush()
    was = before is not None and before.gates_keys
    if was:
        tx.run("unblock_lane", row.lane)
        tx.run("drop_keyed_lane", row.lane)
    if row.gates_keys:
        tx.run("gate_ready_keys", row.lane)
        tx.run("gate_leased_keys", row.lane)
    tx.wake(row)
