"""A claim on a queue with rates or gated keys: each message is judged before it is leased, under the lane's lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from conveyor.model.batching import cut_batches
from conveyor.model.message import Lease
from conveyor.model.verdict import DeadReason
from conveyor.store.gates import PAST_MAX, Candidate, Gate
from conveyor.store.postgres import fair, keys, leases, rates
from conveyor.store.postgres.append import CONTENT_TYPES
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.dead import bury
from conveyor.store.postgres.transaction import Row, Transaction
from conveyor.store.records import ClaimRequest

PAGE: Final = 1_000
WADE_MAX: Final = 10_000
"""Messages that one claim puts aside; if there may be more, it is worth asking again at once."""


async def take_judged(
    tx: Transaction, row: QueueRow, request: ClaimRequest, shelf: int, limit: int
) -> tuple[list[Lease], int | None]:
    """Lease up to `limit` messages; when it is worth asking again, delays apart."""
    gate = await rates.open_gate(tx, row)
    if gate.window is not None and not gate.window.fits(tx.now, 1):
        return [], gate.window.opens_at(tx.now, 1)
    opened = await keys.open_due(tx, row) if row.closes_keys and shelf == keys.OPEN else []
    taking: fair.Taking | None = None
    if row.is_fair and shelf == keys.OPEN:
        has_more = await fair.begin_turns(tx, row, gate, opened)
        taking = await fair.plan(tx, row, gate, limit)
        has_more = has_more or taking.is_cut
        candidates = taking.taken
    else:
        candidates, has_more = await _walk(tx, row, gate, shelf, limit)
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
            taking, left = await fair.plan(tx, row, gate, count), []
        await fair.carry_out(tx, row, taking)
        gate = taking.gate
    left_open = await rates.close_gate(tx, row, gate, taken, left)
    leased = await _lease(tx, row, request, shelf, taken)
    has_more = await keys.bring_back(tx, row, left_open) or has_more
    if len(candidates) >= limit:
        return leased, None
    moments = [batch_opens_at, gate.opens_at, tx.now if has_more else None, await _next_opening(tx, row)]
    return leased, min((moment for moment in moments if moment is not None), default=None)


async def _next_opening(tx: Transaction, row: QueueRow) -> int | None:
    found = await tx.row("next_opening", row.name) if row.closes_keys else None
    return None if found is None else found[0]


async def _walk(tx: Transaction, row: QueueRow, gate: Gate, shelf: int, limit: int) -> tuple[list[Candidate], bool]:
    """The first `limit` that the gate lets through; whether it was given up before the end."""
    taken: list[Candidate] = []
    known: set[int] = set()  # they are still there; suspects that were refused stay where they are, too
    page, aside, past = limit, 0, 0
    while len(taken) < limit and not gate.is_spent:
        found = await _select(tx, row, shelf, page, known)
        await rates.read_states(tx, row, gate, gate.unknown(found))
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
            await keys.block(tx, row, refused)
        else:
            known |= {each.seq for each in refused}
        if late is not None:  # after those before it were put aside: the next of its key comes forward
            await _expire(tx, row, shelf, late)
            past += 1
            key = gate.consumer.gate_key(late.key)
            if key and gate.states.pop(key, None) is not None:
                await rates.read_states(tx, row, gate, [key])
        elif not refused:
            return taken, False
        page, aside = PAGE, aside + len(refused)
        if aside >= WADE_MAX or past == PAST_MAX:
            return taken, True
    return taken, False


async def _select(tx: Transaction, row: QueueRow, shelf: int, limit: int, known: set[int]) -> list[Candidate]:
    """The next candidates, highest priority first."""
    found: list[Candidate] = []
    for priority in row.priorities:
        if len(found) >= limit:
            break
        most = limit - len(found) + len(known)
        rows = await tx.rows("select_judged", row.lane, shelf, priority, tx.due, most)
        found += [Candidate(*each) for each in rows if each[0] not in known]
    return found[:limit]


async def _expire(tx: Transaction, row: QueueRow, shelf: int, each: Candidate) -> None:
    await tx.run("leave_ready", row.lane, shelf, each.priority, each.ready_at, each.seq)
    await bury(tx, row, each.seq, DeadReason.EXPIRED, claims=each.claims, releases=each.releases)


async def _lease(
    tx: Transaction, row: QueueRow, request: ClaimRequest, shelf: int, taken: Sequence[Candidate]
) -> list[Lease]:
    if not taken:
        return []
    places = zip(*((each.priority, each.ready_at, each.seq) for each in taken), strict=True)
    gate_keys = [row.gate_key(each.key) for each in taken] if row.gates_keys else []
    found = await tx.rows(
        "lease_judged",
        *places,
        *(row.lane, shelf, request.owner, *leases.lease_until(tx, request), gate_keys),
    )
    bodies = {each[0]: each for each in found}
    return [_show(row, each, bodies[each.seq], is_suspect=shelf == keys.SUSPECT) for each in taken]


def _show(row: QueueRow, each: Candidate, found: Row, *, is_suspect: bool) -> Lease:
    _, message_id, body, content, sent_at, headers = found
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
