"""What becomes of a lease that ends without an ack: back to READY, or dead."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from conveyor.model.message import CRASH_BUDGET, PULL_MS_MAX
from conveyor.model.verdict import DeadReason
from conveyor.store.postgres import jobs, keys
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.dead import bury, clear, leave
from conveyor.store.postgres.transaction import Row, Transaction
from conveyor.store.records import ClaimRequest


class Ended(msgspec.Struct, frozen=True):
    """A lease that was just taken away: the columns of `end_lease`."""

    seq: int
    lane: int
    claims: int
    releases: int
    crashes: int
    suspect: bool
    size: int

    @property
    def attempts(self) -> int:
        return self.claims - self.releases


def read_ended(found: Row) -> Ended:
    return Ended(*found)


async def put_back(
    tx: Transaction,
    row: QueueRow,
    ended: Ended,
    *,
    ready_at: int | None,
    shelf: int = keys.OPEN,
    releases: int = 0,
    crashes: int = 0,
) -> None:
    """LEASED -> READY, at `ready_at` or in its old place, with that many more releases and crashes; out, if it carries
    a job that was cancelled meanwhile."""
    if await jobs.is_cancelled(tx, row, ended.seq):
        await leave(tx, row, ended.seq)
        return
    place = await tx.row("read_place", ended.seq)
    assert place is not None, "a leased message has a row"
    _lane, old_ready_at, priority, key, *_ = place
    moment = old_ready_at if ready_at is None else ready_at
    if moment != old_ready_at:
        await tx.run("write_ready_at", moment, ended.seq)
    await tx.run(
        "insert_ready",
        *(row.lane, shelf, priority, moment, ended.seq),
        *(ended.claims, ended.releases + releases, ended.crashes + crashes),
    )
    gate_key = row.gate_key(key)
    if gate_key is not None:
        await keys.end_turn(tx, row, gate_key, ended.seq, priority, moment)
    tx.wake(row)


async def release(
    tx: Transaction, owner: int, fences: Iterable[tuple[int, int]], *, are_suspects: bool = False
) -> set[int]:
    """LEASED -> READY in their old places, by (seq, claim), as if they had never been taken; the seqs of those that
    went. Not those whose keys are gated, which may carry a job, or whose queue is
    gone."""
    asked = list(fences)
    if not asked:
        return set()
    seqs, claims = zip(*asked, strict=True)
    lanes = [row.lane for row in tx.catalog.rows.values() if not row.gates_keys and not row.tracks_jobs]
    released = await tx.rows("release_leases", seqs, claims, owner, lanes, are_suspects)
    for lane, shelf, priority, ready_at, seq in released:
        tx.note_put_back((lane, shelf, priority), (ready_at, seq))
    for lane in {each[0] for each in released}:
        row = tx.catalog.of_lane(lane)
        assert row is not None, "it is one of the catalog's"
        tx.wake(row)
    return {each[4] for each in released}


def lease_until(tx: Transaction, request: ClaimRequest) -> tuple[int | None, int | None]:
    """When a pulled lease ends, and the moment past which it cannot be extended (T7)."""
    return (None, None) if request.lease_ms is None else (tx.now + request.lease_ms, tx.now + PULL_MS_MAX)


async def retries_are_spent(tx: Transaction, row: QueueRow, ended: Ended) -> bool:
    """T4's guard, judged by the message's own limit, else the consumer's."""
    place = await tx.row("read_place", ended.seq)
    assert place is not None
    own = place[4]
    return ended.attempts > (row.max_retries if own is None else int(own))


async def crash(tx: Transaction, row: QueueRow, ended: Ended, error: str | None) -> bool:
    """It killed its worker and ran alone: dead if that was the last time; True then. It runs alone from now on."""
    if ended.crashes + 1 >= CRASH_BUDGET:
        await bury(tx, row, ended.seq, DeadReason.CRASHES, claims=ended.claims, releases=ended.releases, error=error)
        return True
    if await retries_are_spent(tx, row, ended):
        await bury(tx, row, ended.seq, DeadReason.RETRIES, claims=ended.claims, releases=ended.releases, error=error)
        return True
    await jobs.note_failure(tx, row, ended.seq, error, ended.attempts)
    await put_back(tx, row, ended, ready_at=None, shelf=keys.SUSPECT, crashes=1)
    return False


async def lose(tx: Transaction, row: QueueRow, ended: Ended, error: str | None) -> bool:
    """Its owner vanished, nobody knows why: an attempt, never a crash; True if it is dead now."""
    if await retries_are_spent(tx, row, ended):
        await bury(tx, row, ended.seq, DeadReason.LOST, claims=ended.claims, releases=ended.releases, error=error)
        return True
    await jobs.note_failure(tx, row, ended.seq, error, ended.attempts)
    await put_back(tx, row, ended, ready_at=None, shelf=keys.SUSPECT if ended.suspect else keys.OPEN)
    return False


async def expire_pulled(tx: Transaction, *, limit: int) -> int:
    """T5 for pull consumers: leases past their deadline end."""
    found = await tx.rows("expired_leases", tx.now, limit)
    await tx.lock_gated({each[1] for each in found})
    for each in found:
        ended = read_ended(each)
        await tx.run("drop_lease", 0, ended.seq)
        row = tx.catalog.of_lane(ended.lane)
        if row is None:  # purged meanwhile
            await clear(tx, ended.seq)
        else:
            await lose(tx, row, ended, "the lease ran out")
    return len(found)
