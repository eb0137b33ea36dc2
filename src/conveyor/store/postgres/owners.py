"""Worker processes: their rows, and what becomes of their leases when they end (T5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from conveyor.model.verdict import DeadReason
from conveyor.store.postgres import jobs, keys, leases
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.dead import bury, clear
from conveyor.store.postgres.leases import Ended, read_ended
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.records import OWNER_LEASE_MS, Ending, Evidence, OwnerInfo, OwnerRow, Reaped

_INFO: Final = msgspec.json.Decoder(OwnerInfo)
_NOBODY_SAW: Final = Evidence(ending=Ending.LOST)


async def register_owner(tx: Transaction, info: OwnerInfo, owner: int | None) -> int:
    found = await tx.row("insert_owner", owner, msgspec.json.encode(info).decode(), tx.now + OWNER_LEASE_MS)
    assert found is not None
    return int(found[0])


async def renew_owners(tx: Transaction, owners: Sequence[int]) -> list[int]:
    """Those that are gone."""
    return [owner for owner in owners if await tx.row("renew_owner", tx.now + OWNER_LEASE_MS, owner) is None]


async def list_owners(tx: Transaction) -> list[OwnerRow]:
    found = await tx.rows("list_owners")
    return [OwnerRow(owner=owner, info=_INFO.decode(info), lease_until=until) for owner, info, until in found]


async def reap_expired(tx: Transaction) -> int:
    """Owners whose lease is over, and nobody saw why."""
    expired = await tx.rows("expired_owners", tx.now)
    for (owner,) in expired:
        await reap_owner(tx, owner, _NOBODY_SAW)
    return len(expired)


async def reap_owner(tx: Transaction, owner: int, evidence: Evidence) -> Reaped:
    """End all its leases; deleting the row fences it out for good."""
    reaped = Reaped(released=[], suspects=[], failed=[], dead=[])
    if await tx.row("delete_owner", owner) is None:
        return reaped
    await tx.lock_gated([lane for (lane,) in await tx.rows("lanes_of_owner", owner)])
    held = [read_ended(found) for found in await tx.rows("leases_of_owner", owner)]
    await _free_slots(tx, owner)
    here = sum(each.seq in evidence.started and tx.catalog.of_lane(each.lane) is not None for each in held)
    running = evidence.elsewhere + here
    released = await _release(tx, owner, held, evidence, running, reaped)
    for each in held:
        if each.seq in released:
            continue
        await tx.run("drop_lease", owner, each.seq)
        row = tx.catalog.of_lane(each.lane)
        if row is None:  # purged meanwhile
            await clear(tx, each.seq)
        else:
            await _judge(tx, row, each, evidence, running, reaped)
    reaped.released.sort()  # together with those that were judged one by one
    reaped.suspects.sort()
    return reaped


async def _release(
    tx: Transaction, owner: int, held: Sequence[Ended], evidence: Evidence, running: int, reaped: Reaped
) -> set[int]:
    """Those that nobody charges, in two statements: a worker may hold a thousand. `_judge` has the others."""
    if evidence.ending is Ending.LOST:
        return set()
    started = evidence.started if evidence.ending is Ending.CRASHED else frozenset[int]()
    innocent = [(each.seq, each.claims) for each in held if each.seq not in started and each.seq != evidence.culprit]
    suspects = [(each.seq, each.claims) for each in held if each.seq in started] if running > 1 else []
    released = await leases.release(tx, owner, innocent)
    suspected = await leases.release(tx, owner, suspects, are_suspects=True)
    reaped.released.extend(sorted(released))
    reaped.suspects.extend(sorted(suspected))
    return released | suspected


async def _free_slots(tx: Transaction, owner: int) -> None:
    for (lane,) in await tx.rows("slots_of_owner", owner):
        row = tx.catalog.of_lane(lane)
        if row is not None:
            tx.wake(row)
    await tx.run("free_slots_of_owner", owner)


async def _judge(tx: Transaction, row: QueueRow, each: Ended, evidence: Evidence, running: int, reaped: Reaped) -> None:
    error = evidence.detail or None
    started = each.seq in evidence.started
    if evidence.ending is Ending.LOST:
        _note(reaped, each, died=await leases.lose(tx, row, each, error))
    elif evidence.ending is Ending.TIMED_OUT and each.seq == evidence.culprit:
        _note(reaped, each, died=await _time_out(tx, row, each, error or "timeout"))
    elif evidence.ending is Ending.CRASHED and started and running == 1:
        _note(reaped, each, died=await leases.crash(tx, row, each, error))
    elif evidence.ending is Ending.CRASHED and started:
        await leases.put_back(tx, row, each, ready_at=None, shelf=keys.SUSPECT, releases=1)
        reaped.suspects.append(each.seq)
    else:
        shelf = keys.SUSPECT if each.suspect else keys.OPEN
        await leases.put_back(tx, row, each, ready_at=None, shelf=shelf, releases=1)
        reaped.released.append(each.seq)


def _note(reaped: Reaped, each: Ended, *, died: bool) -> None:
    (reaped.dead if died else reaped.failed).append(each.seq)


async def _time_out(tx: Transaction, row: QueueRow, each: Ended, error: str) -> bool:
    if await leases.retries_are_spent(tx, row, each):
        await bury(tx, row, each.seq, DeadReason.TIMEOUT, claims=each.claims, releases=each.releases, error=error)
        return True
    await jobs.note_failure(tx, row, each.seq, error, each.attempts)
    await leases.put_back(tx, row, each, ready_at=tx.now)
    return False
