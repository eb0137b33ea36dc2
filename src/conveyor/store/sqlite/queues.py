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
from conveyor.store.records import QueueInfo, QueueMetrics
from conveyor.store.sqlite import append, keys
from conveyor.store.sqlite.append import CONTENT_CODES, CONTENT_TYPES
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.transaction import Row, Transaction

_LAST_SEQ: Final = 2**62


def create_queue(tx: Transaction, name: str, settings: QueueSettings) -> QueueInfo:
    if tx.catalog.find(tx, name) is not None:
        raise QueueExistsError(name)
    return tx.catalog.create(tx, name, settings).info


def update_queue(tx: Transaction, name: str, settings: QueueSettings, version: int | None) -> QueueInfo:
    settings.check()
    row = tx.catalog.get(tx, name)
    _check_version(row, version)
    return _change(tx, row, settings=settings).info


def _check_version(row: QueueRow, version: int | None) -> None:
    if version is not None and version != row.version:
        raise VersionConflictError("queue", row.name)


def delete_queue(tx: Transaction, name: str) -> None:
    row = tx.catalog.get(tx, name)
    tx.flush()
    _abandon_lane(tx, row)
    tx.run("drop_slots", row.lane)
    tx.run("drop_windows", name)
    tx.run("drop_tick", name)
    tx.run("delete_queue", name)
    tx.catalog.bump(tx)


def get_queue(tx: Transaction, name: str) -> QueueInfo:
    return tx.catalog.get(tx, name).info


def list_queues(tx: Transaction) -> list[QueueInfo]:
    return [tx.catalog.get(tx, name).info for (name,) in tx.rows("list_queues")]


def declare_consumer(tx: Transaction, queue: str, settings: ConsumerSettings) -> QueueInfo:
    settings.check()
    present = tx.catalog.find(tx, queue)
    if present is not None and present.consumer is not None:
        _check_adoption(present, present.consumer, settings)
        if present.declared == settings:
            return present.info
    row = tx.catalog.ensure(tx, queue)
    _ensure_targets(tx, settings)
    return _set_consumer(tx, row, settings, declared=settings).info


def _check_adoption(row: QueueRow, present: ConsumerSettings, wanted: ConsumerSettings) -> None:
    if present.type is not wanted.type or present.script != wanted.script:
        raise ConsumerConflictError(row.name, _describe(present), _describe(wanted))


def _describe(consumer: ConsumerSettings) -> str:
    return consumer.script if consumer.type is ConsumerType.WORKER else consumer.type.value


def put_consumer(
    tx: Transaction, queue: str, settings: ConsumerSettings | None, version: int | None
) -> QueueInfo:
    row = tx.catalog.get(tx, queue)
    _check_version(row, version)
    if settings is None:
        return _set_consumer(tx, row, None, declared=None).info
    settings.check()
    _ensure_targets(tx, settings)
    return _set_consumer(tx, row, settings, declared=row.declared).info


def _ensure_targets(tx: Transaction, settings: ConsumerSettings) -> None:
    for name in (settings.dead_letter_queue, settings.alert_queue):
        if name is not None:
            tx.catalog.ensure(tx, name)


def _set_consumer(
    tx: Transaction, row: QueueRow, consumer: ConsumerSettings | None, *, declared: ConsumerSettings | None
) -> QueueRow:
    before = row.consumer
    row = _change(tx, row, consumer=consumer, declared=declared)
    if gating_of(before) != gating_of(consumer):
        keys.regate(tx, row, before)
    elif row.is_fair and pacing_of(before) != pacing_of(consumer):  # keys may have been put off to another moment
        tx.run("call_lane", tx.now, row.lane)
    return row


def _change(tx: Transaction, row: QueueRow, **changes: object) -> QueueRow:
    row = tx.catalog.write(tx, msgspec.structs.replace(row, **changes))
    tx.wake(row)
    return row


def pause(tx: Transaction, queue: str) -> None:
    _change(tx, tx.catalog.get(tx, queue), paused=True)


def resume(tx: Transaction, queue: str) -> None:
    _change(tx, tx.catalog.get(tx, queue), paused=False)


def purge(tx: Transaction, queue: str) -> int:
    """T9: the queue moves to a new lane, and the old one is left to the sweep."""
    row = tx.catalog.get(tx, queue)
    tx.flush()
    gone = tx.backlog(row.lane)[0]
    _abandon_lane(tx, row)
    lane = tx.catalog.new_lane(tx)
    tx.run("move_slots", lane, row.lane)  # calls that run still run
    _change(tx, row, lane=lane, holds_dead=False, uses_dedupe=False)
    return gone


def _abandon_lane(tx: Transaction, row: QueueRow) -> None:
    tx.run("add_purged", row.lane)
    tx.run("drop_counters", row.lane)
    tx.forget_counts(row.lane)


def metrics(tx: Transaction, queue: str) -> QueueMetrics:
    row = tx.catalog.get(tx, queue)
    tx.flush()
    messages, size = tx.backlog(row.lane)
    oldest = [tx.row("oldest_ready_at", row.lane, priority) for priority in row.priorities]
    leased = tx.row("count_leased", row.lane)
    return QueueMetrics(
        backlog_messages=messages,
        backlog_bytes=size,
        oldest_ready_at=min((each[0] for each in oldest if each is not None and each[0] is not None), default=None),
        leased=0 if leased is None else leased[0],
    )


def peek(tx: Transaction, queue: str, limit: int, after_seq: int) -> list[Peeked]:
    row = tx.catalog.get(tx, queue)
    tx.flush()
    return [_peeked(found, row.name) for found in tx.rows("peek_messages", row.lane, after_seq, limit)]


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


def find_message(tx: Transaction, queue: str, message_id: MessageId) -> Peeked | None:
    tx.flush()
    row = tx.catalog.get(tx, queue)
    found = tx.row("find_message", row.lane, message_id)
    return None if found is None else _look_at(tx, row, found[0])


def _look_at(tx: Transaction, row: QueueRow, seq: int) -> Peeked | None:
    found = tx.row("peek_messages", row.lane, seq - 1, 1)
    return None if found is None or found[0] != seq else _peeked(found, row.name)


def edit_message(
    tx: Transaction, was: Peeked, body: bytes, content_type: ContentType, headers: bytes | None
) -> Peeked:
    row = tx.catalog.get(tx, was.queue)
    tx.flush()
    present = _look_at(tx, row, was.seq)
    if present is None or present.leased or present != was:
        raise VersionConflictError("message", show_id(was.id))
    tx.run("edit_message", body, CONTENT_CODES[content_type], headers, was.seq)
    tx.count(row.lane, 0, len(body) - len(was.body))
    changed = _look_at(tx, row, was.seq)
    assert changed is not None, "it was there in this transaction"
    return changed


def redrive(tx: Transaction, queue: str, seqs: Sequence[int] | None, limit: int) -> int:
    """T12. Dead letters that are leased now, or whose queue is gone, stay."""
    row = tx.catalog.get(tx, queue)
    tx.flush()
    return sum(_redrive_one(tx, row, *letter) for letter in _letters(tx, row, seqs, limit))


def _letters(tx: Transaction, row: QueueRow, seqs: Sequence[int] | None, limit: int) -> list[Row]:
    if seqs is None:
        return tx.rows("list_dead_letters", row.lane, 0, _LAST_SEQ, limit)
    found = [each for seq in seqs for each in tx.rows("list_dead_letters", row.lane, seq, seq, 1)]
    return found[:limit]


def _redrive_one(tx: Transaction, row: QueueRow, seq: int, origin: str, max_retries: int | None) -> bool:
    target = tx.catalog.find(tx, origin)
    place = tx.row("read_place", seq)
    if target is None or place is None:
        return False
    _lane, ready_at, priority, key, _retries, size, _dedupe, before = place
    found = tx.row("find_ready", row.lane, priority, ready_at, seq)
    if found is None:
        return False
    shelf, claims = found[0], max(found[1], before)
    tx.run("leave_ready", row.lane, shelf, priority, ready_at, seq)
    tx.run("drop_dead_letter", row.lane, seq)
    moved = tx.row("move_to_lane", target.lane, tx.now, max_retries, claims, seq)
    assert moved is not None, "its row was there"
    tx.run("set_headers", add_redrive(moved[3]), seq)
    tx.run("insert_ready", target.lane, keys.OPEN, priority, tx.now, seq, claims, claims, 0)
    if target.tracks_jobs:
        tx.run("restart_waits", seq)
    tx.count(row.lane, -1, -size)
    tx.count(target.lane, 1, size)
    key_here, key_there = row.gate_key(key), target.gate_key(key)
    if key_here is not None:
        keys.drop_keys(tx, row, [(key_here, seq)])
    if key_there is not None:
        keys.add_key(tx, target, key_there, seq, priority, tx.now)
    if not target.levels >> priority & 1:
        append.use_level(tx, target, priority)
    tx.wake(target)
    return True
