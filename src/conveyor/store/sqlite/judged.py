"""A claim on a queue with rates or gated keys: each message is judged before it is leased."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Final

import apsw

from conveyor.model.batching import cut_batches
from conveyor.model.message import Lease
from conveyor.model.verdict import DeadReason
from conveyor.store.gates import PAST_MAX, Candidate, Gate
from conveyor.store.records import ClaimRequest
from conveyor.store.sqlite import fair, keys, leases, rates
from conveyor.store.sqlite.append import CONTENT_TYPES
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.dead import bury
from conveyor.store.sqlite.transaction import Transaction

PAGE: Final = 1_000
WADE_MAX: Final = 10_000
"""Messages that one claim puts aside; if there may be more, it is worth asking again at once."""


def take_judged(
    tx: Transaction, row: QueueRow, request: ClaimRequest, shelf: int, limit: int
) -> tuple[list[Lease], int | None]:
    """Lease up to `limit` messages; when it is worth asking again, delays apart."""
    gate = rates.open_gate(tx, row)
    if gate.window is not None and not gate.window.fits(tx.now, 1):
        return [], gate.window.opens_at(tx.now, 1)
    opened = keys.open_due(tx, row) if row.closes_keys and shelf == keys.OPEN else []
    taking: fair.Taking | None = None
    if row.is_fair and shelf == keys.OPEN:
        has_more = fair.begin_turns(tx, row, gate, opened)
        taking = fair.plan(tx, row, gate, limit)
        has_more = has_more or taking.is_cut
        candidates = taking.taken
    else:
        candidates, has_more = _walk(tx, row, gate, shelf, limit)
    count, batch_opens_at = cut_batches(
        [each.ready_at for each in candidates],
        limit_reached=len(candidates) >= limit,
        batch_size=request.batch_size,
        timeout_ms=request.batch_timeout_ms,
        now=tx.now,
    )
    taken, left = candidates[:count], candidates[count:]
    if taking is not None:
        if left:
            taking, left = fair.plan(tx, row, gate, count), []
        fair.carry_out(tx, row, taking)
        gate = taking.gate
    left_open = rates.close_gate(tx, row, gate, taken, left)
    leased = _lease(tx, row, request, shelf, taken)
    has_more = keys.bring_back(tx, row, left_open) or has_more
    if len(candidates) >= limit:
        return leased, None
    moments = [batch_opens_at, gate.opens_at, tx.now if has_more else None, _next_opening(tx, row)]
    return leased, min((moment for moment in moments if moment is not None), default=None)


def _next_opening(tx: Transaction, row: QueueRow) -> int | None:
    found = tx.row("next_opening", row.name) if row.closes_keys else None
    return None if found is None else found[0]


def _walk(tx: Transaction, row: QueueRow, gate: Gate, shelf: int, limit: int) -> tuple[list[Candidate], bool]:
    """The first `limit` that the gate lets through; whether it was given up before the end."""
    taken: list[Candidate] = []
    known: set[int] = set()  # they are still there; suspects that were refused stay where they are, too
    page, aside, past = limit, 0, 0
    while len(taken) < limit and not gate.is_spent:
        found = _select(tx, row, shelf, page, known)
        rates.read_states(tx, row, gate, gate.unknown(found))
        refused: list[Candidate] = []
        late: Candidate | None = None
        for each in found:
            if len(taken) == limit or gate.is_spent:
                break
            if gate.is_past(each):
                late = each
                break
            if not gate.admits(each):
                refused.append(each)
            elif gate.has_room(each):
                gate.take(each)
                taken.append(each)
                known.add(each.seq)
        if shelf == keys.OPEN:
            keys.block(tx, row, refused)
        else:
            known |= {each.seq for each in refused}
        if late is not None:  # after those before it were put aside: the next of its key comes forward
            _expire(tx, row, shelf, late)
            past += 1
            key = gate.consumer.gate_key(late.key)
            if key and gate.states.pop(key, None) is not None:
                rates.read_states(tx, row, gate, [key])
        elif not refused:
            return taken, False
        page, aside = PAGE, aside + len(refused)
        if aside >= WADE_MAX or past == PAST_MAX:
            return taken, True
    return taken, False


def _select(tx: Transaction, row: QueueRow, shelf: int, limit: int, known: set[int]) -> list[Candidate]:
    """The next candidates, highest priority first."""
    found: list[Candidate] = []
    for priority in row.priorities:
        if len(found) >= limit:
            break
        rows = tx.rows("select_judged", row.lane, shelf, priority, tx.due, limit - len(found) + len(known))
        found += [Candidate(*each) for each in rows if each[0] not in known]
    return found[:limit]


def _expire(tx: Transaction, row: QueueRow, shelf: int, each: Candidate) -> None:
    tx.run("leave_ready", row.lane, shelf, each.priority, each.ready_at, each.seq)
    bury(tx, row, each.seq, DeadReason.EXPIRED, claims=each.claims, releases=each.releases)


def _lease(
    tx: Transaction, row: QueueRow, request: ClaimRequest, shelf: int, taken: Sequence[Candidate]
) -> list[Lease]:
    if not taken:
        return []
    until, most = leases.lease_until(tx, request)
    is_suspect = shelf == keys.SUSPECT
    seqs = apsw.carray(array("q", [each.seq for each in taken]))
    bodies = {seq: rest for seq, *rest in tx.rows("read_bodies", seqs)}
    tx.run_many("leave_ready", [(row.lane, shelf, each.priority, each.ready_at, each.seq) for each in taken])
    tx.run_many(
        "insert_lease",
        [
            (request.owner, each.seq, row.lane, each.claims + 1, each.releases, each.crashes, is_suspect,
             len(bodies[each.seq][1]), until, most)
            for each in taken
        ],
    )  # fmt: skip
    if row.gates_keys:
        keys.note_leased(tx, row, taken)
    return [_show(row, each, bodies[each.seq], is_suspect=is_suspect) for each in taken]


def _show(row: QueueRow, each: Candidate, found: Sequence[Any], *, is_suspect: bool) -> Lease:
    message_id, body, content, sent_at, headers = found
    return Lease(
        seq=each.seq,
        claim=each.claims + 1,
        id=message_id,
        queue=row.name,
        body=body,
        content_type=CONTENT_TYPES[content],
        sent_at=sent_at,
        releases=each.releases,
        key=each.key,
        headers=headers,
        crash_suspect=is_suspect,
    )
