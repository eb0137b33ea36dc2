"""T3, T4, T6, T7, T8: verdicts end leases. Acks go in one sweep, everything else one by one."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import apsw

from conveyor.model.errors import LeaseLostError
from conveyor.model.group import MemberState
from conveyor.model.ids import show_id
from conveyor.model.job import JobRecord
from conveyor.model.message import Lease, Peeked
from conveyor.model.verdict import Action, DeadReason, Settlement
from conveyor.store.groups import MemberEnd, end_of, is_member
from conveyor.store.records import PULL_OWNER, Settled
from conveyor.store.sqlite import jobs, keys, leases, steps
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.dead import bury, clear
from conveyor.store.sqlite.leases import Ended, read_ended
from conveyor.store.sqlite.transaction import Row, Transaction

_NOTHING: Final[Mapping[int, JobRecord]] = MappingProxyType({})


def settle(tx: Transaction, owner: int, settlements: Sequence[Settlement], ended: Mapping[str, int]) -> Settled:
    """Verdicts of a worker, fenced by owner and claim."""
    lost: list[int] = []
    dead: list[int] = []
    acks = [(owner, each.seq, each.claim) for each in settlements if each.action is Action.ACK]
    if acks:
        outcomes = {each.seq: each.outcome for each in settlements if each.outcome is not None}
        lost += _ack(tx, acks, outcomes, has_members=any(each.is_member for each in settlements))
    for each in settlements:
        if each.action is not Action.ACK:
            _settle_one(tx, owner, each, lost, dead)
    for queue, calls in ended.items():
        _free_slots(tx, owner, queue, calls)
    return Settled(lost, dead)


def settle_pulled(tx: Transaction, settlements: Sequence[Settlement]) -> Settled:
    """Verdicts over HTTP, whose tokens the caller has verified. A late ack counts (T3')."""
    lost: list[int] = []
    dead: list[int] = []
    for each in settlements:
        if each.action is Action.ACK:
            acks = [(PULL_OWNER, each.seq, each.claim)]
            lost += [seq for seq in _ack(tx, acks, has_members=True) if not _ack_late(tx, each)]
        else:
            _settle_one(tx, PULL_OWNER, each, lost, dead)
    return Settled(lost, dead)


def discard(tx: Transaction, queue: str, seqs: Sequence[int]) -> list[int]:
    """T9 for single messages; those that were there."""
    row = tx.catalog.get(tx, queue)
    tx.flush()
    places = {seq: tx.row("read_place", seq) for seq in seqs}
    here = {seq: place for seq, place in places.items() if place is not None and place[0] == row.lane}
    gone = [seq for seq, place in here.items() if _take_out(tx, seq, place, None)]
    tx.wake(row)  # the next of their keys may go
    return gone


def extend(tx: Transaction, seq: int, claim: int, lease_ms: int) -> None:
    """T7. `LeaseLostError`."""
    found = tx.row("read_lane", seq)
    is_live = found is not None and tx.catalog.has_lane(tx, found[0])
    if not is_live or tx.run("extend_lease", tx.now + lease_ms, seq, claim) == 0:
        raise LeaseLostError("gone" if found is None else show_id(found[1]))


def ack_or_lose(tx: Transaction, owner: int, lease: Lease) -> None:
    """T3 in the user's transaction, which must not stand unless this owner has the message. `LeaseLostError`."""
    found = tx.row("find_lease", lease.seq)
    if found is None or found[:2] != (owner, lease.claim):
        raise LeaseLostError(show_id(lease.id))
    _ack(tx, [(owner, lease.seq, lease.claim)], has_members=is_member(lease.headers))


def _ack(
    tx: Transaction, acks: list[tuple[int, int, int]], outcomes: Mapping[int, JobRecord] = _NOTHING, *,
    has_members: bool,
) -> list[int]:  # fmt: skip
    """LEASED -> DONE; the seqs whose lease is somebody else's now. `has_members`: it is worth a look."""
    done = tx.run_many("end_lease", acks)
    if outcomes:
        jobs.put_outcomes(tx, [outcomes[found[0]] for found in done if found[0] in outcomes])
    by_lane: dict[int, list[Row]] = {}
    for found in done:
        by_lane.setdefault(found[1], []).append(found)
    for lane, group in by_lane.items():
        _forget(tx, lane, group)
        _delete(tx, group, outcomes, MemberState.SUCCEEDED if has_members else None)
    if len(done) == len(acks):
        return []
    ended = {found[0] for found in done}
    return [seq for _, seq, _ in acks if seq not in ended and _exists(tx, seq)]


def _forget(tx: Transaction, lane: int, group: list[Row]) -> None:
    seqs = [found[0] for found in group]
    row = tx.catalog.of_lane(tx, lane)
    if row is not None:
        tx.count(lane, -len(group), -sum(found[6] for found in group))
        if row.gates_keys:
            _drop_keys(tx, row, seqs)
        if row.uses_dedupe:
            tx.run_many("release_dedupe", tx.rows("dedupe_keys_of", _bind(seqs)))
        if row.holds_dead:
            tx.run("drop_dead_letters", lane, _bind(seqs))


def _delete(
    tx: Transaction, group: list[Row], outcomes: Mapping[int, JobRecord], ends_as: MemberState | None
) -> None:
    """Members among them end so, unless an outcome says otherwise; None: there are none."""
    seqs = [found[0] for found in group]
    if ends_as is None:
        tx.run("delete_messages", _bind(seqs))
        return
    for seq, id, headers in tx.rows("drop_messages", _bind(seqs)):
        tx.end_member(id, headers, end_of(outcomes[seq]) if seq in outcomes else MemberEnd(ends_as))


def _bind(seqs: list[int]) -> object:
    return apsw.carray(array("q", seqs))


def _drop_keys(tx: Transaction, row: QueueRow, seqs: list[int]) -> None:
    found = tx.rows("keys_of", _bind(seqs))
    keys.drop_keys(tx, row, [(key, seq) for seq, raw in found if (key := row.gate_key(raw)) is not None])


def _exists(tx: Transaction, seq: int) -> bool:
    """Whether the message is still somewhere, and not below a purge."""
    place = tx.row("read_place", seq)
    return place is not None and tx.catalog.has_lane(tx, place[0])


def _ack_late(tx: Transaction, each: Settlement) -> bool:
    """T3': the message is READY again, or leased again; an earlier, verified lease still acks it."""
    place = tx.row("read_place", each.seq)
    assert place is not None, "what is lost exists"
    return _take_out(tx, each.seq, place, each.claim)


def take_out_ready(tx: Transaction, row: QueueRow, message: Peeked) -> bool:
    """A message that waits is gone; whether it was there."""
    place = tx.row("read_place", message.seq)
    return place is not None and place[0] == row.lane and _take_out(tx, message.seq, place, None)


def _take_out(tx: Transaction, seq: int, place: Row, claim: int | None) -> bool:
    """READY or LEASED -> gone, if that is one of its claims since it came to its queue; None: however often."""
    lane, ready_at, priority, _key, _retries, size, _dedupe, before = place
    lease = tx.row("find_lease", seq)
    if lease is not None:
        owner, claims, _ = lease
        if claim is not None and not before < claim <= claims:
            return False
        tx.run("drop_lease", owner, seq)
    else:
        found = tx.row("find_ready", lane, priority, ready_at, seq)
        if found is None or (claim is not None and not before < claim <= found[1]):
            return False
        tx.run("leave_ready", lane, found[0], priority, ready_at, seq)
    gone = [(seq, lane, 0, 0, 0, 0, size)]
    _forget(tx, lane, gone)
    _delete(tx, gone, _NOTHING, MemberState.CANCELLED if claim is None else MemberState.SUCCEEDED)
    return True


def _settle_one(tx: Transaction, owner: int, each: Settlement, lost: list[int], dead: list[int]) -> None:
    found = tx.row("end_lease", owner, each.seq, each.claim)
    if found is None:
        if _exists(tx, each.seq):
            lost.append(each.seq)
        return
    ended = read_ended(found)
    row = tx.catalog.of_lane(tx, ended.lane)
    if row is None:  # purged meanwhile
        clear(tx, ended.seq)
        return
    if each.outcome is not None:
        tx.told.add(each.seq)
    died = _end(tx, row, ended, each)
    if died:
        dead.append(each.seq)
    jobs.note_settled(tx, each, died=died)


def _end(tx: Transaction, row: QueueRow, ended: Ended, each: Settlement) -> bool:
    """Do what the verdict says; whether the message is dead now."""
    match each.action:
        case Action.CRASH:
            return leases.crash(tx, row, ended, each.error)
        case Action.RELEASE:
            ready_at = None if each.delay_ms is None else tx.now + each.delay_ms
            if ready_at is not None and each.parks is not None:
                ready_at = steps.park(tx, ended.seq, ready_at, each.parks)
            leases.put_back(tx, row, ended, ready_at=ready_at, shelf=_shelf_after_release(ended, each), releases=1)
            if each.throttles and ready_at is not None:
                tx.run("throttle_queue", ready_at, row.lane)
                tx.catalog.bump(tx)
            if each.rests_key and ready_at is not None:
                keys.rest_key(tx, row, ended.seq, ready_at)
            return False
        case Action.RETRY if not leases.retries_are_spent(tx, row, ended):
            leases.put_back(tx, row, ended, ready_at=tx.now + (each.delay_ms or 0))
            return False
        case Action.RETRY | Action.REJECT | Action.ACK:
            default = DeadReason.RETRIES if each.action is Action.RETRY else DeadReason.REJECTED
            reason = each.reason or default
            bury(tx, row, ended.seq, reason, claims=ended.claims, releases=ended.releases, error=each.error)
            return True


def _shelf_after_release(ended: Ended, each: Settlement) -> int:
    """A suspect that was given back unstarted is still one; a handler that ran and asked for a delay has shown its
    innocence."""
    return keys.SUSPECT if ended.suspect and each.delay_ms is None else keys.OPEN


def _free_slots(tx: Transaction, owner: int, queue: str, calls: int) -> None:
    row = tx.catalog.meant(tx, queue)
    held = None if row is None else tx.row("read_slots", row.lane, owner)
    if row is None or held is None:
        return
    if held[0] > calls:
        tx.run("write_slots", held[0] - calls, row.lane, owner)
    else:
        tx.run("free_slots", row.lane, owner)
    tx.wake(row)
