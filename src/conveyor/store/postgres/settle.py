"""T3, T4, T6, T7, T8: verdicts end leases. Acks go in one sweep, so do releases; everything else one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conveyor.model.errors import LeaseLostError
from conveyor.model.group import GROUP_MARK, MemberState
from conveyor.model.ids import show_id
from conveyor.model.message import Peeked
from conveyor.model.verdict import Action, DeadReason, Settlement
from conveyor.store.groups import MemberEnd, end_of
from conveyor.store.postgres import catalog, jobs, keys, leases, steps
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.dead import bury, clear
from conveyor.store.postgres.leases import Ended, read_ended
from conveyor.store.postgres.transaction import Row, Transaction
from conveyor.store.records import PULL_OWNER, Settled


async def settle(tx: Transaction, owner: int, settlements: Sequence[Settlement], ended: Mapping[str, int]) -> Settled:
    """Verdicts of a worker, fenced by owner and claim."""
    lost: list[int] = []
    dead: list[int] = []
    await _lock_lanes(tx, owner, settlements)
    acks = [each for each in settlements if each.action is Action.ACK]
    if acks:
        lost += await _ack(tx, owner, acks)
    released = await leases.release(
        tx, owner, [(each.seq, each.claim) for each in settlements if _is_plain_release(each)]
    )
    for each in settlements:
        if each.action is not Action.ACK and each.seq not in released:
            await _settle_one(tx, owner, each, lost, dead)
    for queue, calls in ended.items():
        await _free_slots(tx, owner, queue, calls)
    return Settled(lost, dead)


def _is_plain_release(each: Settlement) -> bool:
    return each.action is Action.RELEASE and each.delay_ms is None


async def settle_pulled(tx: Transaction, settlements: Sequence[Settlement]) -> Settled:
    """Verdicts over HTTP, whose tokens the caller has verified. A late ack counts (T3')."""
    lost: list[int] = []
    dead: list[int] = []
    await _lock_lanes(tx, PULL_OWNER, settlements)
    for each in settlements:
        if each.action is Action.ACK:
            lost += [seq for seq in await _ack(tx, PULL_OWNER, [each]) if not await _ack_late(tx, each)]
        else:
            await _settle_one(tx, PULL_OWNER, each, lost, dead)
    return Settled(lost, dead)


async def discard(tx: Transaction, queue: str, seqs: Sequence[int]) -> list[int]:
    """T9 for single messages; those that were there."""
    row = tx.catalog.get(queue)
    gone: list[int] = []
    for seq in sorted(set(seqs)):
        place = await tx.row("read_place", seq)
        if place is not None and place[0] == row.lane and await _take_out(tx, seq, place, None):
            gone.append(seq)
    tx.wake(row)  # the next of their keys may go
    return gone


async def extend(tx: Transaction, seq: int, claim: int, lease_ms: int) -> None:
    """T7. `LeaseLostError`."""
    found = await tx.row("read_lane", seq)
    is_live = found is not None and tx.catalog.of_lane(found[0]) is not None
    if not is_live or await tx.run("extend_lease", tx.now + lease_ms, seq, claim) == 0:
        raise LeaseLostError("gone" if found is None else show_id(found[1]))


async def _lock_lanes(tx: Transaction, owner: int, settlements: Sequence[Settlement]) -> None:
    """Where keys are gated, verdicts and claims of a lane come one after the other."""
    if tx.catalog.gates_keys and settlements:
        found = await tx.rows("lanes_of_leases", owner, [each.seq for each in settlements])
        await tx.lock_gated([lane for (lane,) in found])


async def _ack(tx: Transaction, owner: int, acks: Sequence[Settlement]) -> list[int]:
    """LEASED -> DONE; the seqs whose lease is somebody else's now."""
    seqs, claims = [each.seq for each in acks], [each.claim for each in acks]
    has_members = owner == PULL_OWNER or any(each.is_member for each in acks)
    done = await tx.rows("ack_leases", seqs, claims, owner, tx.catalog.gates_keys, has_members, GROUP_MARK)
    outcomes = {each.seq: each.outcome for each in acks if each.outcome is not None}
    if outcomes:
        await jobs.put_outcomes(tx, [outcomes[found[0]] for found in done if found[0] in outcomes])
    if has_members:
        tx.members.update({found[4]: end_of(outcomes.get(found[0])) for found in done if found[4] is not None})
    by_lane: dict[int, list[Row]] = {}
    for found in done:
        by_lane.setdefault(found[1], []).append(found)
    for lane, group in by_lane.items():
        await _forget(tx, lane, group)
    if len(done) == len(acks):
        return []
    ended = {found[0] for found in done}
    left = [each.seq for each in acks if each.seq not in ended]
    return [seq for seq, lane in await tx.rows("read_lanes", left) if tx.catalog.of_lane(lane) is not None]


async def _forget(tx: Transaction, lane: int, group: list[Row]) -> None:
    """What a lane knew of messages that are gone, as (seq, lane, size, key)."""
    row = tx.catalog.of_lane(lane)
    if row is None:  # purged meanwhile
        return
    tx.count(lane, -len(group), -sum(found[2] for found in group))
    if row.gates_keys:
        gone = [(gate_key, seq) for seq, _, _, key, *_ in group if (gate_key := row.gate_key(key)) is not None]
        await keys.drop_keys(tx, row, gone)
    if row.holds_dead:
        await tx.run("drop_dead_letters", lane, [found[0] for found in group])


async def _exists(tx: Transaction, seq: int) -> bool:
    """Whether the message is still somewhere: not below a purge, nor acked in a transaction of the user's."""
    found = await tx.row("read_lane_unless_acked", seq)
    return found is not None and tx.catalog.of_lane(found[0]) is not None


async def _ack_late(tx: Transaction, each: Settlement) -> bool:
    """T3': the message is READY again, or leased again; an earlier, verified lease still acks it."""
    place = await tx.row("read_place", each.seq)
    if place is None:  # another has acked it since we looked
        return True
    return await _take_out(tx, each.seq, place, each.claim)


async def take_out_ready(tx: Transaction, row: QueueRow, message: Peeked) -> bool:
    """A message that waits is gone; whether it was there."""
    place = await tx.row("read_place", message.seq)
    if place is None or place[0] != row.lane:
        return False
    await tx.lock_gated([row.lane])
    if await tx.row("find_ready", row.lane, place[2], place[1], message.seq) is None:
        return False
    return await _take_out(tx, message.seq, place, None)


async def _take_out(tx: Transaction, seq: int, place: Row, claim: int | None) -> bool:
    """READY or LEASED -> gone, if that is one of its claims since it came to its queue; None: however often."""
    lane, ready_at, priority, key, _retries, size, _dedupe, before = place
    await tx.lock_gated([lane])
    lease = await tx.row("find_lease", seq)
    if lease is not None:
        owner, claims, _ = lease
        if claim is not None and not before < claim <= claims:
            return False
        await tx.run("drop_lease", owner, seq)
    else:
        found = await tx.row("find_ready", lane, priority, ready_at, seq)
        if found is None or (claim is not None and not before < claim <= found[1]):
            return False
        await tx.run("leave_ready", lane, found[0], priority, ready_at, seq)
    gone = await tx.row("delete_message", seq)
    if gone is not None:
        tx.end_member(gone[0], gone[1], MemberEnd(MemberState.CANCELLED if claim is None else MemberState.SUCCEEDED))
    await _forget(tx, lane, [(seq, lane, size, key)])
    return True


async def _settle_one(tx: Transaction, owner: int, each: Settlement, lost: list[int], dead: list[int]) -> None:
    found = await tx.row("end_lease", owner, each.seq, each.claim)
    if found is None:
        if await _exists(tx, each.seq):
            lost.append(each.seq)
        return
    ended = read_ended(found)
    row = tx.catalog.of_lane(ended.lane)
    if row is None:  # purged meanwhile
        await clear(tx, ended.seq)
        return
    if each.outcome is not None:
        tx.told.add(each.seq)
    died = await _end(tx, row, ended, each)
    if died:
        dead.append(each.seq)
    await jobs.note_settled(tx, each, died=died)


async def _end(tx: Transaction, row: QueueRow, ended: Ended, each: Settlement) -> bool:
    """Do what the verdict says; whether the message is dead now."""
    match each.action:
        case Action.CRASH:
            return await leases.crash(tx, row, ended, each.error)
        case Action.RELEASE:
            ready_at = None if each.delay_ms is None else tx.now + each.delay_ms
            if ready_at is not None and each.parks is not None:
                ready_at = await steps.park(tx, ended.seq, ready_at, each.parks)
            shelf = _shelf_after_release(ended, each)
            await leases.put_back(tx, row, ended, ready_at=ready_at, shelf=shelf, releases=1)
            if each.throttles and ready_at is not None:
                tx.require_catalog()
                await tx.run("throttle_queue", ready_at, row.lane)
                await catalog.bump(tx)
            if each.rests_key and ready_at is not None:
                await keys.rest_key(tx, row, ended.seq, ready_at)
            return False
        case Action.RETRY if not await leases.retries_are_spent(tx, row, ended):
            await leases.put_back(tx, row, ended, ready_at=tx.now + (each.delay_ms or 0))
            return False
        case Action.RETRY | Action.REJECT | Action.ACK:
            default = DeadReason.RETRIES if each.action is Action.RETRY else DeadReason.REJECTED
            reason = each.reason or default
            await bury(tx, row, ended.seq, reason, claims=ended.claims, releases=ended.releases, error=each.error)
            return True


def _shelf_after_release(ended: Ended, each: Settlement) -> int:
    """A suspect that was given back unstarted is still one; a handler that ran and asked for a delay has shown its
    innocence."""
    return keys.SUSPECT if ended.suspect and each.delay_ms is None else keys.OPEN


async def _free_slots(tx: Transaction, owner: int, queue: str, calls: int) -> None:
    row = tx.catalog.meant(queue)
    held = None if row is None else await tx.row("read_slots", row.lane, owner)
    if row is None or held is None:
        return
    if held[0] > calls:
        await tx.run("write_slots", held[0] - calls, row.lane, owner)
    else:
        await tx.run("free_slots", row.lane, owner)
    tx.wake(row)
