"""Keys that somebody counts: ordered ones, those with a concurrency, a rate or turns. Touched only where the consumer
gates keys, under the lane's lock; but for sends, which only add.

A message that may not go yet is found by a claim, moved to the shelf of the blocked, and put back when its key has
room: so a claim never wades through a long queue behind one key. In a fair queue nothing is moved: there a claim asks
the keys that stand in line (`fair`), and whatever may change that calls the key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from conveyor.model.rate import Window
from conveyor.model.settings import ConsumerSettings
from conveyor.store.gates import Candidate
from conveyor.store.postgres import catalog
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.transaction import BEHIND, WAITING, Row, Transaction

OPEN, SUSPECT, BLOCKED = 0, 1, 2  # shelves of `ready`
OPENED_MAX: Final = 1_000
"""Keys, and messages of each, that come back in one claim."""


async def add_key(tx: Transaction, row: QueueRow, key: str, seq: int, priority: int, ready_at: int) -> None:
    """A message with a key has come to a queue that gates keys."""
    place = BEHIND if row.is_fair else WAITING
    await tx.run("add_keyed", [row.lane], [key], [seq], [place], [priority], [ready_at])
    if row.is_fair:
        await tx.run("call_keys", [row.lane], [ready_at], [key])


async def block(tx: Transaction, row: QueueRow, refused: Sequence[Candidate]) -> None:
    """Put messages aside until their keys have room."""
    if refused:
        columns = zip(*((each.key, each.seq, each.priority, each.ready_at) for each in refused), strict=True)
        await tx.run("block", *columns, row.lane)


async def end_turn(tx: Transaction, row: QueueRow, key: str, seq: int, priority: int, ready_at: int) -> None:
    """A message of the key is ready again: it keeps its place, and another may have room."""
    place = BEHIND if row.is_fair else WAITING
    await tx.run("put_keyed", place, priority, ready_at, row.lane, key, seq)
    if row.is_fair:
        await tx.run("call_keys", [row.lane], [ready_at], [key])
    await _make_room(tx, row, {key: 1})


async def drop_keys(tx: Transaction, row: QueueRow, gone: Sequence[tuple[str, int]]) -> None:
    """These messages, by key and seq, are final, or have left the queue."""
    if not gone:
        return
    found = await tx.rows("drop_keyed", *zip(*gone, strict=True), row.lane)
    if row.closes_keys and not row.is_fair:  # one that waited was perhaps to go before those that are blocked
        await _promote(tx, row, Counter(key for key, place in found if place == WAITING))
    await _make_room(tx, row, Counter(key for key, _ in gone))


async def _make_room(tx: Transaction, row: QueueRow, left: Mapping[str, int]) -> None:
    keys = sorted(key for key in left if key)
    if not keys or row.consumer is None or not row.consumer.limits_keys:
        return
    if row.is_fair:
        await tx.run("call_keys", [row.lane] * len(keys), [tx.now] * len(keys), keys)
        tx.wake(row)
    else:
        await _promote(tx, row, left)


async def _promote(tx: Transaction, row: QueueRow, room: Mapping[str, int]) -> None:
    """Whose turn it is, if it was put aside: the first of an ordered key, else the first in the order of claims."""
    if not room:
        return
    if row.consumer is not None and row.consumer.ordered:
        heads = await tx.rows("heads_of_keys", [*room], row.lane)
        found = [(key, seq, priority, ready_at) for key, seq, place, priority, ready_at in heads if place == BEHIND]
    else:
        blocked = await tx.rows("blocked_of_keys", [*room], [*room.values()], row.lane)
        found = [(key, seq, priority, ready_at) for key, seq, priority, ready_at, _ in blocked]
    await _unblock(tx, row, found)


async def _unblock(tx: Transaction, row: QueueRow, found: Sequence[tuple[str, int, int, int]]) -> None:
    if found:
        await tx.run("unblock", *zip(*found, strict=True), row.lane)
        tx.wake(row)


async def open_due(tx: Transaction, row: QueueRow) -> list[str]:
    """Keys that were closed until a moment that has come. Of what was put aside as many as there is room for come
    back."""
    due = await tx.rows("open_keys", row.name, tx.now, OPENED_MAX)
    if due and not row.is_fair:
        await _unblock_affordable(tx, row, {key: entries for key, entries in due})
    return [key for key, _ in due]


async def _unblock_affordable(tx: Transaction, row: QueueRow, due: Mapping[str, str]) -> None:
    """The first of each in any case: it may be that it must close the key anew."""
    consumer = row.consumer
    assert consumer is not None
    if consumer.ordered:
        await _promote(tx, row, dict.fromkeys(due, 1))
        return
    most = min(OPENED_MAX, consumer.key_limit or OPENED_MAX)
    if consumer.key_rate is not None:
        most = min(most, consumer.key_rate.count)
    found = await tx.rows("blocked_of_keys", [*due], [most] * len(due), row.lane)
    blocked: dict[str, list[Row]] = {}
    for each in found:
        blocked.setdefault(each[0], []).append(each)
    chosen: list[tuple[str, int, int, int]] = []
    for key, rows in blocked.items():
        window = None if consumer.key_rate is None else Window.decode(consumer.key_rate, due[key])
        spent = count = 0
        for _, seq, priority, ready_at, cost in rows:
            if count and window is not None and not window.fits(tx.now, cost or 1, besides=spent):
                break
            chosen.append((key, seq, priority, ready_at))
            spent, count = spent + (cost or 1), count + 1
        if count == OPENED_MAX:
            await tx.run("rest_key", row.name, key, tx.now)  # the others in the next claim
    await _unblock(tx, row, chosen)


async def bring_back(tx: Transaction, row: QueueRow, gave: Mapping[str, int]) -> bool:
    """Of what was put aside as many as each key gave; whether there were any."""
    found = await tx.rows("blocked_of_keys", [*gave], [*gave.values()], row.lane) if gave else []
    await _unblock(tx, row, [(key, seq, priority, ready_at) for key, seq, priority, ready_at, _ in found])
    return bool(found)


async def rest_key(tx: Transaction, row: QueueRow, seq: int, until: int) -> None:
    """A handler asks that the messages of this one's key rest."""
    place = await tx.row("read_place", seq)
    key = None if place is None else row.gate_key(place[3])
    if key:
        if not row.closes_keys:
            tx.require_catalog()
            await tx.run("mark_rests_keys", row.lane)
            await catalog.bump(tx)
        await tx.run("rest_key", row.name, key, until)


async def regate(tx: Transaction, row: QueueRow, before: ConsumerSettings | None) -> None:
    """The consumer's settings changed: begin, change or end the gating of keys for what lies in the queue."""
    if before is not None and before.gates_keys:
        await tx.run("unblock_lane", row.lane)
        for name in ("drop_keyed_lane", "drop_line", "drop_called"):
            await tx.run(name, row.lane)
        await tx.run("open_all_keys", row.name)
        if row.consumer is None or row.consumer.key_rate is None:
            await tx.run("drop_key_windows", row.name)
    if row.gates_keys:
        await tx.run("gate_ready_keys", BEHIND if row.is_fair else WAITING, row.lane, row.is_fair)
        await tx.run("gate_leased_keys", row.lane, row.is_fair)
    if row.is_fair:
        await tx.run("call_lane", tx.now, row.lane)
    tx.wake(row)
