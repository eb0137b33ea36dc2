"""The line of a fair queue's keys: who stands in it has something to give, and a claim asks them in turn.

A key comes to the line when it was called: by a message that was sent or is put back, from the moment at which that is
ready; by a lease that ends, where leases close keys; by its rate, when that opens. It leaves the line when it has
nothing to give. So a claim touches the keys that it asks and the messages that it takes, however many wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from conveyor.model.verdict import DeadReason
from conveyor.store.gates import PAST_MAX, Candidate, Gate, Rotated, Turn, rotate
from conveyor.store.sqlite import keys, rates
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.dead import bury
from conveyor.store.sqlite.transaction import Transaction

CALLED_MAX: Final = 1_000
"""Calls that are heard at a time."""
ARRIVALS_MAX: Final = 2_000
"""Keys that come to the line in one claim, or not many more; the others were called later, and come later."""
HEARINGS_MAX: Final = 200
_MORE: Final = 4
"""So many times as much is read where too little was."""


class Taking(msgspec.Struct, frozen=True):
    """What a claim would take, and how the lines would stand then, by level."""

    taken: list[Candidate]
    levels: list[tuple[int, list[Turn], Rotated]]
    gate: Gate

    @property
    def is_cut(self) -> bool:
        """It met so many that are past their end that it went no further."""
        return any(len(rotated.past) >= PAST_MAX for _, _, rotated in self.levels)


def begin_turns(tx: Transaction, row: QueueRow, gate: Gate, opened: list[str]) -> bool:
    """Keys that were called and may give something come to the end of the line, in the order of what they have to give;
    whether there may be more of them."""
    called, has_more = _hear(tx, row)
    arrivals = sorted({*called, *opened})
    rates.read_states(tx, row, gate, [key for key in arrivals if key])
    joining: list[tuple[Candidate, str]] = []
    for priority in row.priorities:
        found = tx.run_many("is_in_line", [(row.lane, priority, key) for key in arrivals])
        absent = {*arrivals} - {key for (key,) in found}
        offers = _read_offers(tx, row, priority, dict.fromkeys(sorted(absent), 1))
        joining += [(each, key) for key, offer in offers.items() for each in offer if gate.admits(each)]
    _join(tx, row, gate, joining)
    _call_again(tx, row, arrivals)
    return has_more


def _join(tx: Transaction, row: QueueRow, gate: Gate, joining: list[tuple[Candidate, str]]) -> None:
    ends: dict[int, int] = {}
    places: list[tuple[int, int, int, str, int]] = []
    for first, key in sorted(joining, key=lambda each: (each[0].ready_at, each[0].seq)):
        end = ends.get(first.priority) or _end_of_line(tx, row, first.priority)
        ends[first.priority] = end + 1
        places.append((row.lane, first.priority, end + 1, key, gate.consumer.weight_of(key)))
    tx.run_many("join_line", places)


def _hear(tx: Transaction, row: QueueRow) -> tuple[set[str], bool]:
    """Who was called, and whether there may be more. A key that is called again and again must not drown another."""
    called: set[str] = set()
    for _ in range(HEARINGS_MAX):
        found = tx.rows("hear_called", row.lane, tx.now, CALLED_MAX)
        called |= {key for (key,) in found}
        if len(found) < CALLED_MAX:
            return called, False
        if len(called) >= ARRIVALS_MAX:
            break
    return called, True


def _call_again(tx: Transaction, row: QueueRow, arrivals: list[str]) -> None:
    """When the next of their delays ends, or it may go."""
    places = [(row.lane, key, priority, tx.due) for key in arrivals for priority in row.priorities]
    delayed: dict[str, int] = {}
    for key, ready_at in tx.run_many("next_of_key", places):
        delayed[key] = min(ready_at, delayed.get(key, ready_at))
    goes_at = tx.admission.goes_at
    tx.run_many("call_key", [(row.lane, goes_at(ready_at), key) for key, ready_at in delayed.items()])


def _end_of_line(tx: Transaction, row: QueueRow, priority: int) -> int:
    found = tx.row("end_of_line", row.lane, priority)
    assert found is not None
    return int(found[0])


def plan(tx: Transaction, row: QueueRow, gate: Gate, limit: int) -> Taking:
    """Up to `limit` messages, turn by turn; nothing is written yet."""
    taken: list[Candidate] = []
    levels: list[tuple[int, list[Turn], Rotated]] = []
    for priority in row.priorities:
        if len(taken) >= limit or gate.is_spent:
            break
        line, rotated, gate = _rotate_level(tx, row, gate, priority, limit - len(taken))
        taken += rotated.taken
        levels.append((priority, line, rotated))
    return Taking(taken, levels, gate)


def _rotate_level(
    tx: Transaction, row: QueueRow, gate: Gate, priority: int, limit: int
) -> tuple[list[Turn], Rotated, Gate]:
    wanted = limit + 1
    offers: dict[str, list[Candidate]] = {}
    asked: dict[str, int] = {}
    while True:
        line = [Turn(*found) for found in tx.rows("read_line", row.lane, priority, wanted)]
        rates.read_states(tx, row, gate, [turn.key for turn in line if turn.key])
        share = -(-limit // max(1, len(line)))
        unasked = {
            turn.key: turn.remains + share + gate.consumer.weight_of(turn.key) for turn in line if turn.key not in asked
        }
        offers |= _read_offers(tx, row, priority, unasked)
        asked |= unasked
        whole = {key for key, most in asked.items() if len(offers[key]) < most or _is_ordered(row, key)}
        attempt = gate.copy()
        rotated = rotate(
            line, offers, attempt, limit, is_whole_line=len(line) < wanted, is_whole_offer=whole.__contains__
        )
        if rotated.hungry is not None:
            asked[rotated.hungry] = max(_MORE * asked[rotated.hungry], limit)
            offers |= _read_offers(tx, row, priority, {rotated.hungry: asked[rotated.hungry]})
        elif rotated.is_short:
            wanted *= _MORE
        else:
            return line, rotated, attempt


def _is_ordered(row: QueueRow, key: str) -> bool:
    return bool(key) and row.consumer is not None and row.consumer.ordered


def _read_offers(tx: Transaction, row: QueueRow, priority: int, most: Mapping[str, int]) -> dict[str, list[Candidate]]:
    offers: dict[str, list[Candidate]] = {key: [] for key in most}
    heads = [(row.lane, key, priority, tx.due) for key in most if _is_ordered(row, key)]
    others = [(row.lane, key, priority, tx.due, most[key]) for key in most if not _is_ordered(row, key)]
    for key, *columns in tx.run_many("offered_head", heads) + tx.run_many("offer_of_key", others):
        offers[key].append(Candidate(*columns))
    return offers


def carry_out(tx: Transaction, row: QueueRow, taking: Taking) -> None:
    """The lines stand as planned, and what was met too late is buried. The caller leases the rest."""
    for priority, before, rotated in taking.levels:
        tx.run_many("leave_line", [(row.lane, priority, turn.place) for turn in rotated.gone])
        remained = {turn.place: turn.remains for turn in before}
        end = _end_of_line(tx, row, priority) if any(turn.has_moved for turn in rotated.line) else 0
        moves: list[tuple[int, int, int, int, int]] = []
        for turn in rotated.line:
            end += turn.has_moved
            if turn.has_moved or turn.remains != remained[turn.place]:
                moves.append((end if turn.has_moved else turn.place, turn.remains, row.lane, priority, turn.place))
        tx.run_many("move_in_line", moves)
        for each in rotated.past:
            tx.run("leave_ready", row.lane, keys.OPEN, each.priority, each.ready_at, each.seq)
            bury(tx, row, each.seq, DeadReason.EXPIRED, claims=each.claims, releases=each.releases)
