"""Worker processes: their rows, and what becomes of their leases when they end (T5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from conveyor.model.verdict import DeadReason
from conveyor.store.records import OWNER_LEASE_MS, Ending, Evidence, OwnerInfo, OwnerRow, Reaped
from conveyor.store.sqlite import jobs, keys, leases
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.dead import bury, clear
from conveyor.store.sqlite.leases import Ended, read_ended
from conveyor.store.sqlite.transaction import Transaction

_INFO: Final = msgspec.json.Decoder(OwnerInfo)
_NOBODY_SAW: Final = Evidence(ending=Ending.LOST)


def register_owner(tx: Transaction, info: OwnerInfo, owner: int | None) -> int:
    if owner is None:
        found = tx.row("next_owner")
        assert found is not None
        owner = int(found[0])
    tx.run("insert_owner", owner, msgspec.json.encode(info).decode(), tx.now + OWNER_LEASE_MS)
    return owner


def renew_owners(tx: Transaction, owners: Sequence[int]) -> list[int]:
    """Those that are gone."""
    return [owner for owner in owners if tx.row("renew_owner", tx.now + OWNER_LEASE_MS, owner) is None]


def list_owners(tx: Transaction) -> list[OwnerRow]:
    found = tx.rows("list_owners")
    return [OwnerRow(owner=owner, info=_INFO.decode(info), lease_until=until) for owner, info, until in found]


def reap_expired(tx: Transaction) -> int:
    """Owners whose lease is over, and nobody saw why."""
    expired = tx.rows("expired_owners", tx.now)
    for (owner,) in expired:
        reap_owner(tx, owner, _NOBODY_SAW)
    return len(expired)


def reap_owner(tx: Transaction, owner: int, evidence: Evidence) -> Reaped:
    """End all its leases; deleting the row fences it out for good."""
    reaped = Reaped(released=[], suspects=[], failed=[], dead=[])
    if tx.row("delete_owner", owner) is None:
        return reaped
    held = [read_ended(found) for found in tx.rows("leases_of_owner", owner)]
    _free_slots(tx, owner)
    here = sum(each.seq in evidence.started and tx.catalog.has_lane(tx, each.lane) for each in held)
    running = evidence.elsewhere + here
    for each in held:
        tx.run("drop_lease", owner, each.seq)
        row = tx.catalog.of_lane(tx, each.lane)
        if row is None:  # purged meanwhile
            clear(tx, each.seq)
        else:
            _judge(tx, row, each, evidence, running, reaped)
    return reaped


def _free_slots(tx: Transaction, owner: int) -> None:
    for (lane,) in tx.rows("slots_of_owner", owner):
        row = tx.catalog.of_lane(tx, lane)
        if row is not None:
            tx.wake(row)
    tx.run("free_slots_of_owner", owner)


def _judge(tx: Transaction, row: QueueRow, each: Ended, evidence: Evidence, running: int, reaped: Reaped) -> None:
    error = evidence.detail or None
    started = each.seq in evidence.started
    if evidence.ending is Ending.LOST:
        _note(reaped, each, died=leases.lose(tx, row, each, error))
    elif evidence.ending is Ending.TIMED_OUT and each.seq == evidence.culprit:
        _note(reaped, each, died=_time_out(tx, row, each, error or "timeout"))
    elif evidence.ending is Ending.CRASHED and started and running == 1:
        _note(reaped, each, died=leases.crash(tx, row, each, error))
    elif evidence.ending is Ending.CRASHED and started:
        leases.put_back(tx, row, each, ready_at=None, shelf=keys.SUSPECT, releases=1)
        reaped.suspects.append(each.seq)
    else:
        shelf = keys.SUSPECT if each.suspect else keys.OPEN
        leases.put_back(tx, row, each, ready_at=None, shelf=shelf, releases=1)
        reaped.released.append(each.seq)


def _note(reaped: Reaped, each: Ended, *, died: bool) -> None:
    (reaped.dead if died else reaped.failed).append(each.seq)


def _time_out(tx: Transaction, row: QueueRow, each: Ended, error: str) -> bool:
    if leases.retries_are_spent(tx, row, each):
        bury(tx, row, each.seq, DeadReason.TIMEOUT, claims=each.claims, releases=each.releases, error=error)
        return True
    jobs.note_failure(tx, row, each.seq, error, each.attempts)
    leases.put_back(tx, row, each, ready_at=tx.now)
    return False
