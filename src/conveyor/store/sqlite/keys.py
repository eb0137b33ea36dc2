"""Keys that somebody counts: ordered ones, those with a concurrency, a rate or turns. Touched only where the consumer
gates keys.

A message that may not go yet is found by a claim, moved to the shelf of the blocked, and put back when its key has
room: so a claim never wades through a long queue behind one key. In a fair queue nothing is moved: there a claim asks
the keys that stand in line (`fair`), and whatever may change that calls the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from conveyor.model.rate import Window
from conveyor.model.settings import ConsumerSettings
from conveyor.store.gates import Candidate
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.transaction import Transaction

OPEN, SUSPECT, BLOCKED = 0, 1, 2  # shelves of `ready`
WAITING, LEASED, BEHIND = 0, 1, 2  # places of `keyed`; behind its key is what was blocked, or waits for its key's turn
OPENED_MAX: Final = 1_000
"""Keys, and messages of each, that come back in one claim."""


def add_key(tx: Transaction, row: QueueRow, key: str, seq: int, priority: int, ready_at: int) -> None:
    """A message with a key has come to a queue that gates keys."""
    is_fair = row.is_fair
    tx.insert_later("add_keyed", (row.lane, key, seq, BEHIND if is_fair else WAITING, priority, ready_at))
    if is_fair:
        tx.insert_later("call_key", (row.lane, ready_at, key))


def block(tx: Transaction, row: QueueRow, refused: Sequence[Candidate]) -> None:
    """Put messages aside until their keys have room."""
    tx.run_many("put_keyed", [(BEHIND, each.priority, each.ready_at, row.lane, each.key, each.seq) for each in refused])
    tx.run_many("move_shelf", [(BLOCKED, row.lane, OPEN, each.priority, each.ready_at, each.seq) for each in refused])


def note_leased(tx: Transaction, row: QueueRow, taken: Sequence[Candidate]) -> None:
    keyed = [(row.gate_key(each.key), each.seq) for each in taken]
    tx.run_many("place_keyed", [(LEASED, row.lane, key, seq) for key, seq in keyed if key is not None])


def end_turn(tx: Transaction, row: QueueRow, key: str, seq: int, priority: int, ready_at: int) -> None:
    """A message of the key is ready again: it keeps its place, and another may have room."""
    tx.run("put_keyed", BEHIND if row.is_fair else WAITING, priority, ready_at, row.lane, key, seq)
    if row.is_fair:
        tx.run("call_key", row.lane, ready_at, key)
    _make_room(tx, row, key)


def drop_keys(tx: Transaction, row: QueueRow, gone: Sequence[tuple[str, int]]) -> None:
    """These messages, by key and seq, are final, or have left the queue."""
    tx.flush()  # one of them may have come in this very transaction
    found = tx.run_many("drop_keyed", [(row.lane, key, seq) for key, seq in gone])
    for key, place in found:
        if row.closes_keys and not row.is_fair and place == WAITING:
            _promote(tx, row, key)  # it may be the one that was to go before those that are blocked
        else:
            _make_room(tx, row, key)


def _make_room(tx: Transaction, row: QueueRow, key: str) -> None:
    if not key or row.consumer is None or not row.consumer.limits_keys:
        return
    if row.is_fair:
        tx.run("call_key", row.lane, tx.now, key)
        tx.wake(row)
    else:
        _promote(tx, row, key)


def _promote(tx: Transaction, row: QueueRow, key: str) -> None:
    """Whose turn it is, if it was put aside: the first of an ordered key, else the first in the order of claims."""
    if row.consumer is not None and row.consumer.ordered:
        first = tx.row("first_of_key", row.lane, key)
        if first is None or first[1] != BEHIND:
            return
        seq = first[0]
        place = tx.row("read_place", seq)
        assert place is not None, "a blocked message has a row"
        _unblock(tx, row, key, seq, place[2], place[1])
    else:
        for seq, priority, ready_at, _ in tx.rows("blocked_of_key", row.lane, key, 1):
            _unblock(tx, row, key, seq, priority, ready_at)


def _unblock(tx: Transaction, row: QueueRow, key: str, seq: int, priority: int, ready_at: int) -> None:
    tx.run("place_keyed", WAITING, row.lane, key, seq)
    tx.run("move_shelf", OPEN, row.lane, BLOCKED, priority, ready_at, seq)
    tx.wake(row)


def open_due(tx: Transaction, row: QueueRow) -> list[str]:
    """Keys that were closed until a moment that has come. Of what was put aside as many as there is room for come
    back."""
    due = tx.rows("open_keys", row.name, tx.now, OPENED_MAX)
    if not row.is_fair:
        for key, entries in due:
            _unblock_affordable(tx, row, key, entries)
    return [key for key, _ in due]


def _unblock_affordable(tx: Transaction, row: QueueRow, key: str, entries: str) -> None:
    """The first of them in any case: it may be that it must close the key anew."""
    consumer = row.consumer
    assert consumer is not None
    if consumer.ordered:
        _promote(tx, row, key)
        return
    most = min(OPENED_MAX, consumer.key_limit or OPENED_MAX)
    window = None if consumer.key_rate is None else Window.decode(consumer.key_rate, entries)
    spent = count = 0
    for seq, priority, ready_at, cost in tx.rows("blocked_of_key", row.lane, key, most):
        if count and window is not None and not window.fits(tx.now, cost or 1, besides=spent):
            return
        _unblock(tx, row, key, seq, priority, ready_at)
        spent, count = spent + (cost or 1), count + 1
    if count == OPENED_MAX:
        tx.run("rest_key", row.name, key, tx.now)  # the others in the next claim


def bring_back(tx: Transaction, row: QueueRow, gave: Mapping[str, int]) -> bool:
    """Of what was put aside as many as each key gave; whether there were any."""
    if not gave or tx.row("has_blocked", row.lane) is None:
        return False
    found = [(key, *each) for key, most in gave.items() for each in tx.rows("blocked_of_key", row.lane, key, most)]
    for key, seq, priority, ready_at, _ in found:
        _unblock(tx, row, key, seq, priority, ready_at)
    return bool(found)


def rest_key(tx: Transaction, row: QueueRow, seq: int, until: int) -> None:
    """A handler asks that the messages of this one's key rest."""
    place = tx.row("read_place", seq)
    key = None if place is None else row.gate_key(place[3])
    if key:
        tx.run("rest_key", row.name, key, until)
        if not row.closes_keys:
            tx.run("mark_rests_keys", row.lane)
            tx.catalog.bump(tx)


def regate(tx: Transaction, row: QueueRow, before: ConsumerSettings | None) -> None:
    """The consumer's settings changed: begin, change or end the gating of keys for what lies in the queue."""
    tx.flush()
    if before is not None and before.gates_keys:
        tx.run("unblock_lane", row.lane)
        for name in ("drop_keyed_lane", "drop_line", "drop_called"):
            tx.run(name, row.lane)
        tx.run("open_all_keys", row.name)
        if row.consumer is None or row.consumer.key_rate is None:
            tx.run("drop_key_windows", row.name)
    if row.gates_keys:
        tx.run("gate_ready_keys", BEHIND if row.is_fair else WAITING, row.lane, row.is_fair)
        tx.run("gate_leased_keys", row.lane, row.is_fair)
    if row.is_fair:
        tx.run("call_lane", tx.now, row.lane)
    tx.wake(row)
