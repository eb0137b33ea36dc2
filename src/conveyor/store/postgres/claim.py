"""T2 claim: READY messages become leases.

On the plain path one statement takes the head of a priority level, however many messages it is. Where messages wait for
a batch, the head is locked, judged here, and what was found fit is leased by a second statement. What another claim
holds is passed over (SKIP LOCKED), never waited for. Queues with rates or gated keys have a room of their own:
`judged`.
"""

from __future__ import annotations

from typing import Any, Final

from conveyor.model.batching import cut_batches
from conveyor.model.dispatch import Dispatch
from conveyor.model.message import Lease
from conveyor.model.verdict import DeadReason
from conveyor.store.admission import Admission, Served, admit_all, admit_at_tick, admit_by_alarm
from conveyor.store.postgres import keys, leases
from conveyor.store.postgres.append import CONTENT_TYPES
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.dead import bury
from conveyor.store.postgres.judged import take_judged
from conveyor.store.postgres.marks import HEAD, Level
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.records import PULL_OWNER, Claimed, ClaimRequest

# Columns of `select_ready` and `claim_ready`.
_SEQ, _READY_AT, _CLAIMS, _RELEASES, _CRASHES, _ID = range(6)
_BODY, _CONTENT, _SENT_AT, _KEY, _HEADERS, _EXPIRES_AT, _FIRST = range(6, 13)
_PRIORITY: Final = 13  # added by us

_Found = tuple[Any, ...]


async def claim(tx: Transaction, request: ClaimRequest) -> Claimed:
    """`QueueNotFoundError`."""
    row = tx.catalog.get(request.queue)
    if request.owner == PULL_OWNER:
        await leases.expire_pulled(tx, limit=request.limit)
    elif await tx.row("find_owner", request.owner) is None:  # reaped: nobody would ever end these leases
        return Claimed(leases=[], version=row.version)
    row = tx.catalog.get(request.queue)
    if row.paused:
        return Claimed(leases=[], version=row.version)
    if row.throttled_until > tx.now:
        return Claimed(leases=[], opens_at=row.throttled_until, version=row.version)
    if row.is_judged or _is_limited(row, request):
        await tx.lock_lane(row.lane)
    admission = await _admit(tx, row, request)
    tx.admission = admission
    limit = await _limit(tx, row, request, admission.most)
    shelf = keys.SUSPECT if request.suspects else keys.OPEN
    if limit == 0:
        _, has_suspects = await _look_ahead(tx, row, shelf)
        return Claimed(leases=[], opens_at=admission.opens_at, suspects=has_suspects, version=row.version)
    if row.is_judged:
        leased, opens_at = await take_judged(tx, row, request, shelf, limit)
    else:
        if request.batch_size > 1:
            taken, opens_at = await _take_batches(tx, row, request, shelf, limit)
        else:
            taken, opens_at = await _take(tx, row, request, shelf, limit), None
        leased = [_lease(found, row.name, shelf) for found in taken]
    calls = await _hold_slots(tx, row, request, len(leased))
    if (served := admission.after(len(leased))) is not None:
        await tx.run("write_tick", row.name, served.tick, served.messages)
    next_ready_at, has_suspects = await _look_ahead(tx, row, shelf)
    if len(leased) < limit:
        opens_at = _earlier(opens_at, admission.opens_for(next_ready_at))
    opens_at = _earlier(opens_at, admission.opens_at)
    return Claimed(leases=leased, calls=calls, opens_at=opens_at, suspects=has_suspects, version=row.version)


async def _admit(tx: Transaction, row: QueueRow, request: ClaimRequest) -> Admission:
    consumer = row.consumer
    if consumer is None or not consumer.is_paced or request.lease_ms is not None:
        return admit_all(tx.now)
    if consumer.dispatch is Dispatch.ALARM:
        found = await tx.row("has_leased", row.lane)
        assert found is not None
        return admit_by_alarm(tx.now, is_busy=found[0])
    found = await tx.row("read_tick", row.name)
    return admit_at_tick(consumer, tx.now, None if found is None else Served(*found))


async def _limit(tx: Transaction, row: QueueRow, request: ClaimRequest, most: int | None) -> int:
    """Messages that may be taken: whole batches, and no more handler calls than the queue has free slots."""
    batches = max(1, request.limit // request.batch_size)
    if _is_limited(row, request):
        assert row.consumer is not None and row.consumer.calls_max is not None
        held = await tx.row("sum_slots", row.lane)
        assert held is not None
        batches = min(batches, request.calls, max(0, row.consumer.calls_max - int(held[0])))
    limit = batches * request.batch_size
    return limit if most is None else min(limit, most)


def _is_limited(row: QueueRow, request: ClaimRequest) -> bool:
    return request.lease_ms is None and row.consumer is not None and row.consumer.calls_max is not None


async def _hold_slots(tx: Transaction, row: QueueRow, request: ClaimRequest, taken: int) -> int:
    if not taken or not _is_limited(row, request):
        return 0
    calls = -(-taken // request.batch_size)
    await tx.run("take_slots", row.lane, request.owner, calls)
    return calls


async def _look_ahead(tx: Transaction, row: QueueRow, shelf: int) -> tuple[int | None, bool]:
    found = await tx.row("look_ahead", row.priorities, row.lane, shelf, tx.due)
    assert found is not None
    return found[0], found[1]


async def _take(tx: Transaction, row: QueueRow, request: ClaimRequest, shelf: int, limit: int) -> list[_Found]:
    """Lease the head of each level. Messages past their end are few: they are leased too, and then buried."""
    taken: list[_Found] = []
    for priority in row.priorities:
        while len(taken) < limit:
            wanted = limit - len(taken)
            found = await _take_head(tx, request, (row.lane, shelf, priority), wanted)
            past = [each for each in found if _is_past(tx, row, each)]
            for each in past:
                await bury_past(tx, row, request.owner, each[_SEQ], claims=each[_CLAIMS], releases=each[_RELEASES])
            taken += [each for each in found if not _is_past(tx, row, each)] if past else found
            if len(found) < wanted:
                break
    return taken


async def _take_head(tx: Transaction, request: ClaimRequest, level: Level, limit: int) -> list[_Found]:
    """From where the last claim of this process ended; from the very head if that is too little, or it is time."""
    marks, changes = tx.marks, tx.marks.changes
    until = leases.lease_until(tx, request)
    found: list[_Found] = []
    start = marks.start(level)
    if start != HEAD:
        found = await tx.rows("claim_ready", *level, tx.due, *start, limit, request.owner, *until)
        if found:
            marks.moved(level, (found[-1][_READY_AT], found[-1][_SEQ]), changes)
        if len(found) == limit or not marks.is_worth_a_look(level):
            return found
    began = marks.monotonic()
    earlier = await tx.rows("claim_ready", *level, tx.due, *HEAD, limit - len(found), request.owner, *until)
    found = earlier + found
    if found:
        marks.looked(level, (found[-1][_READY_AT], found[-1][_SEQ]), began, changes)
    return found


async def _take_batches(
    tx: Transaction, row: QueueRow, request: ClaimRequest, shelf: int, limit: int
) -> tuple[list[_Found], int | None]:
    """Lease up to `limit` messages; the rows, and when a batch that is not yet open will be."""
    candidates: list[_Found] = []
    while len(candidates) < limit:
        found = await _select(tx, row, shelf, limit - len(candidates), candidates)
        past = [each for each in found if _is_past(tx, row, each)]
        for each in past:
            await tx.run("leave_ready", row.lane, shelf, each[_PRIORITY], each[_READY_AT], each[_SEQ])
            await bury(tx, row, each[_SEQ], DeadReason.EXPIRED, claims=each[_CLAIMS], releases=each[_RELEASES])
        candidates += [each for each in found if each not in past] if past else found
        if not past:
            break
    count, opens_at = cut_batches(
        [each[_READY_AT] for each in candidates],
        limit_reached=len(candidates) >= limit,
        batch_size=request.batch_size,
        timeout_ms=request.batch_timeout_ms,
        now=tx.now,
    )
    taken = candidates[:count]
    if taken:
        await _lease_taken(tx, row, request, shelf, taken)
    return taken, opens_at


async def _select(tx: Transaction, row: QueueRow, shelf: int, limit: int, seen: list[_Found]) -> list[_Found]:
    """The next candidates, highest priority first. Those seen already are still there."""
    found: list[_Found] = []
    known = {each[_SEQ] for each in seen}
    for priority in row.priorities:
        if len(found) >= limit:
            break
        rows = await tx.rows("select_ready", row.lane, shelf, priority, tx.due, limit - len(found) + len(known))
        found += [(*each, priority) for each in rows if each[_SEQ] not in known]
    return found[:limit]


def _is_past(tx: Transaction, row: QueueRow, found: _Found) -> bool:
    return is_past(row, tx.now, found[_EXPIRES_AT], found[_FIRST])


def is_past(row: QueueRow, now: int, expires_at: int | None, first_ready_at: int) -> bool:
    """T10: its own end has come, or it has been here longer than the queue retains, whatever put it off."""
    return (expires_at is not None and expires_at <= now) or first_ready_at < now - row.settings.retention_ms


async def bury_past(tx: Transaction, row: QueueRow, owner: int, seq: int, *, claims: int, releases: int) -> None:
    """A message that was leased and found to be past its end."""
    if await tx.run("drop_lease", owner, seq):
        await bury(tx, row, seq, DeadReason.EXPIRED, claims=claims, releases=releases)


async def _lease_taken(tx: Transaction, row: QueueRow, request: ClaimRequest, shelf: int, taken: list[_Found]) -> None:
    places = [(each[_PRIORITY], each[_READY_AT], each[_SEQ]) for each in taken]
    await tx.run(
        "lease_taken",
        *zip(*places, strict=True),
        *(row.lane, shelf, request.owner, *leases.lease_until(tx, request)),
    )


def _earlier(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _lease(found: _Found, queue: str, shelf: int) -> Lease:
    return Lease(
        seq=found[_SEQ],
        claim=found[_CLAIMS] + 1,
        id=found[_ID],
        queue=queue,
        body=found[_BODY],
        content_type=CONTENT_TYPES[found[_CONTENT]],
        sent_at=found[_SENT_AT],
        releases=found[_RELEASES],
        key=found[_KEY],
        headers=found[_HEADERS],
        crash_suspect=shelf == keys.SUSPECT,
    )
