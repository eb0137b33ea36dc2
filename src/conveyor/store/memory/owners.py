"""Worker processes in memory: T5, and the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from conveyor.model.verdict import DeadReason
from conveyor.store.ageing import LIFTED_MAX, lifts_before
from conveyor.store.memory.retaining import Retention
from conveyor.store.memory.rows import Message, Queue
from conveyor.store.records import (
    OWNER_LEASE_MS,
    SWEEP_ROWS_MAX,
    Ending,
    Evidence,
    OwnerInfo,
    OwnerRow,
    Reaped,
    Swept,
)
from conveyor.store.resting import latest_of

_Key = TypeVar("_Key")
_Row = TypeVar("_Row")
_NOBODY_SAW = Evidence(ending=Ending.LOST)


class Owners(Retention):
    """`OwnerStore`."""

    async def register_owner(self, info: OwnerInfo, *, owner: int | None = None) -> int:
        owner = next(self._tables.owner_numbers) if owner is None else owner
        self._tables.owners[owner] = OwnerRow(owner=owner, info=info, lease_until=self._now() + OWNER_LEASE_MS)
        return owner

    async def renew_owners(self, owners: Sequence[int]) -> list[int]:
        gone: list[int] = []
        for owner in owners:
            row = self._tables.owners.get(owner)
            if row is None:
                gone.append(owner)
            else:
                self._tables.owners[owner] = msgspec.structs.replace(row, lease_until=self._now() + OWNER_LEASE_MS)
        return gone

    async def reap_owner(self, owner: int, evidence: Evidence) -> Reaped:
        return self._reap(owner, evidence)

    async def list_owners(self) -> list[OwnerRow]:
        return [self._tables.owners[owner] for owner in sorted(self._tables.owners)]

    def _reap(self, owner: int, evidence: Evidence) -> Reaped:
        reaped = Reaped(released=[], suspects=[], failed=[], dead=[])
        if self._tables.owners.pop(owner, None) is None:
            return reaped
        for slot in [slot for slot in self._tables.slots if slot[1] == owner]:
            del self._tables.slots[slot]
            self._wake(slot[0])
        held = sorted((m for m in self._tables.messages.values() if m.owner == owner), key=lambda m: m.seq)
        running = evidence.elsewhere + sum(m.seq in evidence.started for m in held)
        for message in held:
            self._judge(message, evidence, running, reaped)
        return reaped

    def _judge(self, message: Message, evidence: Evidence, running: int, reaped: Reaped) -> None:
        """What becomes of one message of a dead owner."""
        error = evidence.detail or None
        if evidence.ending is Ending.LOST:
            died = self._fail(message, DeadReason.LOST, error, ready_at=message.ready_at)
        elif evidence.ending is Ending.TIMED_OUT and message.seq == evidence.culprit:
            message.crash_suspect = False
            died = self._fail(message, DeadReason.TIMEOUT, error or "timeout", ready_at=self._now())
        elif evidence.ending is Ending.CRASHED and message.seq in evidence.started:
            if running > 1:
                message.crash_suspect = True
                self._release(message)
                reaped.suspects.append(message.seq)
                return
            died = self._crash(message, error)
        else:
            self._release(message)
            reaped.released.append(message.seq)
            return
        (reaped.dead if died else reaped.failed).append(message.seq)

    async def sweep(self) -> Swept:
        now, tables = self._now(), self._tables
        lost = [row.owner for row in tables.owners.values() if row.lease_until <= now][:SWEEP_ROWS_MAX]
        for owner in lost:
            self._reap(owner, _NOBODY_SAW)
        for queue in tables.queues.values():
            self._end_stale_rests(queue)
        return Swept(
            **self._prune(),
            owners=len(lost),
            expired_leases=self._return_pulled(list(tables.messages.values())),
            expired_messages=self._expire_old(),
            dedupe_keys=_drop(tables.dedupes, [k for k, d in tables.dedupes.items() if not d.is_live(now)]),
            kv_entries=_drop(
                tables.entries,
                [k for k, entry in tables.entries.items() if entry.expires_at is not None and entry.expires_at <= now],
            ),
            lifted=sum([self._lift_aged(queue) for queue in list(tables.queues.values())]),
            groups=self._sweep_groups(),
        )

    def _sweep_groups(self) -> int:
        raise NotImplementedError

    def _end_stale_rests(self, queue: Queue) -> None:
        """Those of before the clock was set back."""
        tables, key_rate = self._tables, None if queue.consumer is None else queue.consumer.key_rate
        latest = latest_of(key_rate, self._now())
        if queue.throttled_until > latest.rest:
            queue.throttled_until = 0
        for (name, key), at in tables.rests.items():
            window = tables.windows.get((name, key))
            is_stale = window is not None and window.ends_at > latest.window
            if name == queue.name and at > latest.opening and (at > latest.rest or is_stale):
                tables.rests[name, key] = 0

    def _lift_aged(self, queue: Queue) -> int:
        """As `store.ageing` says."""
        now = self._now()
        waiting = [each for each in self._tables.in_queue(queue.name) if not (each.leased or each.crash_suspect)]
        due = sorted((each for each in waiting if each.ready_at <= now), key=Message.place)
        before = lifts_before(queue.consumer, now, due[0].ready_at) if due else None
        if before is None:
            return 0
        top = due[0].priority
        aged = [each for each in due if each.priority < top and each.ready_at < before]
        aged.sort(key=lambda each: (each.ready_at, each.seq))
        for each in aged[:LIFTED_MAX]:
            each.priority = top
        return len(aged[:LIFTED_MAX])

    def _expire_old(self) -> int:
        """T10."""
        old = [message for message in self._tables.messages.values() if self._is_old(message)]
        for message in old[:SWEEP_ROWS_MAX]:
            if message.seq not in self._tables.messages:  # one before it has ended the group of both
                continue
            self._kill(message, DeadReason.EXPIRED, None)
        return len(old[:SWEEP_ROWS_MAX])

    def _is_old(self, message: Message) -> bool:
        if message.leased:
            return False
        return message.ready_at < self._now() - self._queue(message.queue).settings.retention_ms


def _drop(rows: dict[_Key, _Row], keys: list[_Key]) -> int:
    for key in keys[:SWEEP_ROWS_MAX]:
        del rows[key]
    return len(keys[:SWEEP_ROWS_MAX])
