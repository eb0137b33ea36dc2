"""T2 claim: READY messages become leases.

On the plain path a claim takes the head of each priority level: one SELECT, one INSERT, one DELETE over the same
contiguous range of keys, however many messages they are. Queues with rates or gated keys have a room of their own
(`judged`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from conveyor.model.batching import cut_batches
from conveyor.model.dispatch import Dispatch
from conveyor.model.message import Draft, Lease, Sent
from conveyor.model.verdict import DeadReason
from conveyor.store.admission import Admission, Served, admit_all, admit_at_tick, admit_by_alarm
from conveyor.store.records import PULL_OWNER, Claimed, ClaimRequest
from conveyor.store.sqlite import keys, leases
from conveyor.store.sqlite.append import CONTENT_TYPES, append
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.dead import bury
from conveyor.store.sqlite.judged import take_judged
from conveyor.store.sqlite.transaction import Row, Transaction

# Columns of `select_ready`.
_SEQ, _READY_AT, _CLAIMS, _RELEASES, _CRASHES, _ID = range(6)
_BODY, _CONTENT, _SENT_AT, _KEY, _HEADERS, _EXPIRES_AT, _FIRST = range(6, 13)
_PRIORITY: Final = 13  # added by us


def claim(tx: Transaction, request: ClaimRequest) -> Claimed:
    """`QueueNotFoundError`."""
    row = tx.catalog.get(tx, request.queue)
    tx.flush()
    if request.owner == PULL_OWNER:
        leases.expire_pulled(tx, limit=request.limit)
    elif tx.row("find_owner", request.owner) is None:  # reaped: nobody would ever end these leases
        return Claimed(leases=[], version=row.version)
    if row.paused:
        return Claimed(leases=[], version=row.version)
    if row.throttled_until > tx.now:
        return Claimed(leases=[], opens_at=row.throttled_until, version=row.version)
    admission = _admit(tx, row, request)
    tx.admission = admission
    limit = _limit(tx, row, request, admission.most)
    if limit == 0:
        return Claimed(leases=[], opens_at=admission.opens_at, suspects=_has_suspects(tx, row), version=row.version)
    shelf = keys.SUSPECT if request.suspects else keys.OPEN
    if row.is_judged:
        leased, opens_at = take_judged(tx, row, request, shelf, limit)
    else:
        taken, opens_at = _take(tx, row, request, shelf, limit)
        leased = [_lease(found, row.name, shelf) for found in taken]
    calls = _hold_slots(tx, row, request, len(leased))
    if (served := admission.after(len(leased))) is not None:
        tx.run("write_tick", row.name, served.tick, served.messages)
    if len(leased) < limit:
        opens_at = _earlier(opens_at, admission.opens_for(_next_ready_at(tx, row, shelf)))
    return Claimed(
        leases=leased,
        calls=calls,
        opens_at=_earlier(opens_at, admission.opens_at),
        suspects=_has_suspects(tx, row),
        version=row.version,
    )


def _admit(tx: Transaction, row: QueueRow, request: ClaimRequest) -> Admission:
    consumer = row.consumer
    if consumer is None or not consumer.is_paced or request.lease_ms is not None:
        return admit_all(tx.now)
    if consumer.dispatch is Dispatch.ALARM:
        found = tx.row("has_leased", row.lane)
        assert found is not None
        return admit_by_alarm(tx.now, is_busy=bool(found[0]))
    found = tx.row("read_tick", row.name)
    return admit_at_tick(consumer, tx.now, None if found is None else Served(*found))


def append_and_claim(tx: Transaction, drafts: Sequence[Draft], request: ClaimRequest) -> tuple[list[Sent], Claimed]:
    """T1, T2. As `append`."""
    was_woken = request.queue in tx.woken
    sent, claimed = append(tx, drafts), claim(tx, request)
    if len(claimed.leases) == len(drafts) and not was_woken:
        tx.woken.discard(request.queue)  # nothing is left for anybody else
    return sent, claimed


def _limit(tx: Transaction, row: QueueRow, request: ClaimRequest, most: int | None) -> int:
    """Messages that may be taken: whole batches, and no more handler calls than the queue has free slots."""
    batches = max(1, request.limit // request.batch_size)
    if _is_limited(row, request):
        assert row.consumer is not None and row.consumer.calls_max is not None
        held = tx.row("sum_slots", row.lane)
        assert held is not None
        batches = min(batches, request.calls, max(0, row.consumer.calls_max - int(held[0])))
    limit = batches * request.batch_size
    return limit if most is None else min(limit, most)


def _is_limited(row: QueueRow, request: ClaimRequest) -> bool:
    return request.lease_ms is None and row.consumer is not None and row.consumer.calls_max is not None


def _hold_slots(tx: Transaction, row: QueueRow, request: ClaimRequest, taken: int) -> int:
    if not taken or not _is_limited(row, request):
        return 0
    calls = -(-taken // request.batch_size)
    tx.run("take_slots", row.lane, request.owner, calls)
    return calls


def _take(
    tx: Transaction, row: QueueRow, request: ClaimRequest, shelf: int, limit: int
) -> tuple[list[Row], int | None]:
    """Lease up to `limit` messages; the rows, and when a batch that is not yet open will be."""
    candidates: list[Row] = []
    while len(candidates) < limit:
        found = _select(tx, row, shelf, limit - len(candidates), candidates)
        past = [each for each in found if _is_past(tx, row, each)]
        for each in past:
            tx.run("leave_ready", row.lane, shelf, each[_PRIORITY], each[_READY_AT], each[_SEQ])
            bury(tx, row, each[_SEQ], DeadReason.EXPIRED, claims=each[_CLAIMS], releases=each[_RELEASES])
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
    _lease_ranges(tx, row, request, shelf, taken)
    return taken, opens_at


def _select(tx: Transaction, row: QueueRow, shelf: int, limit: int, seen: list[Row]) -> list[Row]:
    """The next candidates, highest priority first. Those seen already are still there on the plain path."""
    found: list[Row] = []
    known = {each[_SEQ] for each in seen}
    for priority in row.priorities:
        if len(found) >= limit:
            break
        rows = tx.rows("select_ready", row.lane, shelf, priority, tx.due, limit - len(found) + len(known))
        found += [(*each, priority) for each in rows if each[_SEQ] not in known]
    return found[:limit]


def _is_past(tx: Transaction, row: QueueRow, found: Row) -> bool:
    """T10: its own end has come, or it has been here longer than the queue retains, whatever put it off."""
    expires_at = found[_EXPIRES_AT]
    return bool((expires_at is not None and expires_at <= tx.now) or found[_FIRST] < tx.now - row.settings.retention_ms)


def _lease_ranges(tx: Transaction, row: QueueRow, request: ClaimRequest, shelf: int, taken: list[Row]) -> None:
    """All rows of a level up to the last one taken: nobody else writes between our SELECT and this."""
    until, most = leases.lease_until(tx, request)
    lasts = {each[_PRIORITY]: (each[_READY_AT], each[_SEQ]) for each in taken}
    for priority, last in lasts.items():
        tx.run("lease_range", request.owner, until, most, row.lane, shelf, priority, *last)
        tx.run("leave_range", row.lane, shelf, priority, *last)


def _has_suspects(tx: Transaction, row: QueueRow) -> bool:
    return tx.row("has_suspects", row.lane, tx.due) is not None


def _next_ready_at(tx: Transaction, row: QueueRow, shelf: int) -> int | None:
    found = [tx.row("next_ready_at", row.lane, shelf, priority, tx.due) for priority in row.priorities]
    moments = [each[0] for each in found if each is not None and each[0] is not None]
    return min(moments, default=None)


def _earlier(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _lease(found: tuple[Any, ...], queue: str, shelf: int) -> Lease:
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
