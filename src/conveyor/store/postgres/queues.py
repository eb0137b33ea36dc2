"""Queues and consumers: made, changed, paused, purged (T9), looked at, redriven (T12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from conveyor.model.errors import ConsumerConflictError, QueueExistsError, VersionConflictError
from conveyor.model.ids import MessageId, show_id
from conveyor.model.message import ContentType, DeadLetter, Peeked
from conveyor.model.redrive import add_redrive
from conveyor.model.settings import ConsumerSettings, ConsumerType, QueueSettings, gating_of, pacing_of
from conveyor.store.postgres import append, catalog, keys, outbox
from conveyor.store.postgres.append import CONTENT_CODES, CONTENT_TYPES
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.transaction import Row, Transaction
from conveyor.store.records import QueueInfo, QueueMetrics

_LAST_SEQ: Final = 2**62


async def create_queue(tx: Transaction, name: str, settings: QueueSettings) -> QueueInfo:
    if tx.catalog.find(name) is not None:
        raise QueueExistsError(name)
    return (await catalog.create(tx, name, settings)).info


async def update_queue(tx: Transaction, name: str, settings: QueueSettings, version: int | None) -> QueueInfo:
    settings.check()
    row = tx.catalog.get(name)
    _check_version(row, version)
    return (await _change(tx, row, settings=settings)).info


def _check_version(row: QueueRow, version: int | None) -> None:
    if version is not None and version != row.version:
        raise VersionConflictError("queue", row.name)


async def delete_queue(tx: Transaction, name: str) -> None:
    tx.require_catalog()
    await outbox.carry_all(tx)
    row = tx.catalog.get(name)
    await _abandon_lane(tx, row)
    await tx.run("drop_slots", row.lane)
    await tx.run("drop_windows", name)
    await tx.run("drop_tick", name)
    await tx.run("delete_queue", name)
    await catalog.bump(tx)


async def get_queue(tx: Transaction, name: str) -> QueueInfo:
    return tx.catalog.get(name).info


async def list_queues(tx: Transaction) -> list[QueueInfo]:
    return [row.info for row in tx.catalog.rows.values()]


async def declare_consumer(tx: Transaction, queue: str, settings: ConsumerSettings) -> QueueInfo:
    settings.check()
    present = tx.catalog.find(queue)
    if present is not None and present.consumer is not None:
        _check_adoption(present, present.consumer, settings)
        if present.declared == settings:
            return present.info
    row = await catalog.ensure(tx, queue)
    await _ensure_targets(tx, settings)
    return (await _set_consumer(tx, row, settings, declared=settings)).info


def _check_adoption(row: QueueRow, present: ConsumerSettings, wanted: ConsumerSettings) -> None:
    if present.type is not wanted.type or present.script != wanted.script:
        raise ConsumerConflictError(row.name, _describe(present), _describe(wanted))


def _describe(consumer: ConsumerSettings) -> str:
    return consumer.script if consumer.type is ConsumerType.WORKER else consumer.type.value


async def put_consumer(
    tx: Transaction, queue: str, settings: ConsumerSettings | None, version: int | None
) -> QueueInfo:
    row = tx.catalog.get(queue)
    _check_version(row, version)
    if settings is None:
        return (await _set_consumer(tx, row, None, declared=None)).info
    settings.check()
    await _ensure_targets(tx, settings)
    return (await _set_consumer(tx, row, settings, declared=row.declared)).info


async def _ensure_targets(tx: Transaction, settings: ConsumerSettings) -> None:
    for name in (settings.dead_letter_queue, settings.alert_queue):
        if name is not None:
            await catalog.ensure(tx, name)


async def _set_consumer(
    tx: Transaction, row: QueueRow, consumer: ConsumerSettings | None, *, declared: ConsumerSettings | None
) -> QueueRow:
    before = row.consumer
    row = await _change(tx, row, consumer=consumer, declared=declared)
    if gating_of(before) != gating_of(consumer):
        await keys.regate(tx, row, before)
    elif row.is_fair and pacing_of(before) != pacing_of(consumer):  # keys may have been put off to another moment
        await tx.run("call_lane", tx.now, row.lane)
    return row


async def _change(tx: Transaction, row: QueueRow, **changes: object) -> QueueRow:
    row = await catalog.write(tx, msgspec.structs.replace(row, **changes))
    tx.wake(row)
    return row


async def pause(tx: Transaction, queue: str) -> None:
    await _change(tx, tx.catalog.get(queue), paused=True)


async def resume(tx: Transaction, queue: str) -> None:
    await _change(tx, tx.catalog.get(queue), paused=False)


async def purge(tx: Transaction, queue: str) -> int:
    """T9: the queue moves to a new lane, and the old one is left to the sweep."""
    tx.require_catalog()
    await outbox.carry_all(tx)
    row = tx.catalog.get(queue)
    gone, _ = await tx.backlog(row.lane)
    await _abandon_lane(tx, row)
    lane = await catalog.new_lane(tx)
    await tx.run("move_slots", lane, row.lane)  # calls that run still run
    await _change(tx, row, lane=lane, holds_dead=False)
    return gone


async def _abandon_lane(tx: Transaction, row: QueueRow) -> None:
    await tx.run("add_purged", row.lane)
    await tx.run("drop_counters", row.lane)
    tx.forget_counts(row.lane)


async def metrics(tx: Transaction, queue: str) -> QueueMetrics:
    await outbox.carry_all(tx)
    row = tx.catalog.get(queue)
    messages, size = await tx.backlog(row.lane)
    oldest = [await tx.row("oldest_ready_at", row.lane, priority) for priority in row.priorities]
    leased = await tx.row("count_leased", row.lane)
    return QueueMetrics(
        backlog_messages=messages,
        backlog_bytes=size,
        oldest_ready_at=min((each[0] for each in oldest if each is not None and each[0] is not None), default=None),
        leased=0 if leased is None else leased[0],
    )


async def peek(tx: Transaction, queue: str, limit: int, after_seq: int) -> list[Peeked]:
    if after_seq == 0:
        await outbox.carry_all(tx)
    row = tx.catalog.get(queue)
    return [_peeked(found, row.name) for found in await tx.rows("peek_messages", row.lane, after_seq, limit)]


def _peeked(found: Row, queue: str) -> Peeked:
    seq, message_id, body, content, sent_at, ready_at, attempts, leased, priority, key, headers, *dead = found
    origin_queue, reason, dead_at, last_error = dead
    letter = None
    if origin_queue is not None:
        letter = DeadLetter(origin_queue=origin_queue, reason=reason, dead_at=dead_at, last_error=last_error)
    return Peeked(
        seq=seq,
        id=message_id,
        queue=queue,
        body=body,
        content_type=CONTENT_TYPES[content],
        sent_at=sent_at,
        ready_at=ready_at,
        attempts=attempts,
        leased=bool(leased),
        priority=priority,
        key=key,
        headers=headers,
        dead=letter,
    )


async def find_message(tx: Transaction, queue: str, message_id: MessageId) -> Peeked | None:
    await outbox.carry_all(tx)
    row = tx.catalog.get(queue)
    found = await tx.row("find_message", row.lane, message_id)
    return None if found is None else await _look_at(tx, row, found[0])


async def _look_at(tx: Transaction, row: QueueRow, seq: int) -> Peeked | None:
    found = await tx.row("peek_messages", row.lane, seq - 1, 1)
    return None if found is None or found[0] != seq else _peeked(found, row.name)


async def edit_message(
    tx: Transaction, was: Peeked, body: bytes, content_type: ContentType, headers: bytes | None
) -> Peeked:
    row = tx.catalog.get(was.queue)
    held = await tx.row("find_ready", row.lane, was.priority, was.ready_at, was.seq)  # from here on nobody claims it
    if held is None or await _look_at(tx, row, was.seq) != was:
        raise VersionConflictError("message", show_id(was.id))
    await tx.run("edit_message", body, CONTENT_CODES[content_type], headers, was.seq)
    tx.count(row.lane, 0, len(body) - len(was.body))
    changed = await _look_at(tx, row, was.seq)
    assert changed is not None, "it was there in this transaction"
    return changed


async def redrive(tx: Transaction, queue: str, seqs: Sequence[int] | None, limit: int) -> int:
    """T12. Dead letters that are leased now, or whose queue is gone, stay."""
    row = tx.catalog.get(queue)
    if row.gates_keys:
        await tx.lock_lane(row.lane)
    letters = await _letters(tx, row, seqs, limit)
    return sum([await _redrive_one(tx, row, *letter) for letter in letters])


async def _letters(tx: Transaction, row: QueueRow, seqs: Sequence[int] | None, limit: int) -> list[Row]:
    if seqs is None:
        return await tx.rows("list_dead_letters", row.lane, 0, _LAST_SEQ, limit)
    found = [each for seq in seqs for each in await tx.rows("list_dead_letters", row.lane, seq, seq, 1)]
    return found[:limit]


async def _redrive_one(tx: Transaction, row: QueueRow, seq: int, origin: str, max_retries: int | None) -> bool:
    target = tx.catalog.find(origin)
    place = await tx.row("read_place", seq)
    if target is None or place is None:
        return False
    _lane, ready_at, priority, key, _retries, size, _dedupe, before = place
    found = await tx.row("find_ready", row.lane, priority, ready_at, seq)
    if found is None:
        return False
    shelf, claims = found[0], max(found[1], before)
    await tx.run("leave_ready", row.lane, shelf, priority, ready_at, seq)
    await tx.run("drop_dead_letter", row.lane, seq)
    moved = await tx.row("move_to_lane", target.lane, tx.now, max_retries, claims, seq)
    assert moved is not None, "its row was there"
    await tx.run("set_headers", add_redrive(moved[3]), seq)
    await tx.run("insert_ready", target.lane, keys.OPEN, priority, tx.now, seq, claims, claims, 0)
    if target.tracks_jobs:
        await tx.run("restart_waits", seq)
    tx.count(row.lane, -1, -size)
    tx.count(target.lane, 1, size)
    key_here, key_there = row.gate_key(key), target.gate_key(key)
    if key_here is not None:
        await keys.drop_keys(tx, row, [(key_here, seq)])
    if key_there is not None:
        await keys.add_key(tx, target, key_there, seq, priority, tx.now)
    await append.use_level(tx, target, priority)
    tx.wake(target)
    return True
