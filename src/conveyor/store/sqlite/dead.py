"""T6: a message that failed for good moves to the dead letter queue, and whoever wants to know is told in the same
commit."""

from __future__ import annotations

import msgspec

from conveyor.model.alert import write_alert
from conveyor.model.group import MemberState
from conveyor.model.ids import MessageId
from conveyor.model.message import ERROR_CHARS_MAX, ContentType, Draft, Priority
from conveyor.store.groups import MemberEnd
from conveyor.store.sqlite import append, jobs, keys
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.transaction import Transaction


class _Letter(msgspec.Struct, frozen=True):
    """What is written of a death."""

    reason: str
    error: str | None
    max_retries: int | None
    """The message's own, for when it goes back: in the dead letter queue that queue's limit holds."""


def bury(
    tx: Transaction, row: QueueRow, seq: int, reason: str, *, claims: int, releases: int, error: str | None = None
) -> None:
    """The caller has taken it out of `ready` or `leased`, after that many claims and releases."""
    if jobs.is_cancelled(tx, row, seq):
        leave(tx, row, seq)
        return
    jobs.note_death(tx, row, seq, reason, error, claims - releases)
    place = tx.row("read_place", seq)
    assert place is not None, "a message that dies has a row"
    _leave_queue(tx, row, seq, place)
    target = row.consumer.dead_letter_queue if row.consumer is not None else None
    if target is None:
        headers, message_id = _drop(tx, seq)
    else:
        letter = _Letter(reason, error, max_retries=place[4])
        headers, message_id = _move(tx, row, tx.catalog.ensure(tx, target), seq, letter, max(claims, place[7]))
    tx.end_member(message_id, headers, MemberEnd(MemberState.FAILED))
    if row.consumer is not None and row.consumer.alert_queue is not None:
        body = write_alert(
            row.name, target, message_id, reason=reason, error=error, attempts=claims - releases, dead_at=tx.now,
            headers=headers,
        )  # fmt: skip
        _alert(tx, row.consumer.alert_queue, body)


def leave(tx: Transaction, row: QueueRow, seq: int) -> None:
    """GONE, without a letter. The caller has taken it out of `ready` or `leased`."""
    place = tx.row("read_place", seq)
    assert place is not None, "a message that goes has a row"
    _leave_queue(tx, row, seq, place)
    clear(tx, seq)


def clear(tx: Transaction, seq: int) -> None:
    """GONE, from wherever it lay: nothing else knows of it any more."""
    found = tx.row("drop_message", seq)
    if found is not None:
        tx.end_member(found[0], found[1], MemberEnd(MemberState.CANCELLED))


def _leave_queue(tx: Transaction, row: QueueRow, seq: int, place: tuple[object, ...]) -> None:
    lane, _ready_at, _priority, key, _max_retries, size, dedupe, _before = place
    tx.count(row.lane, -1, -int(str(size)))
    gate_key = row.gate_key(None if key is None else str(key))
    if gate_key is not None:
        keys.drop_keys(tx, row, [(gate_key, seq)])
    if dedupe is not None:
        tx.run("release_dedupe", lane, dedupe, seq)
    if row.holds_dead:
        tx.run("drop_dead_letter", lane, seq)


def _drop(tx: Transaction, seq: int) -> tuple[bytes | None, MessageId]:
    found = tx.row("drop_message", seq)
    assert found is not None
    return found[1], found[0]


def _move(
    tx: Transaction, row: QueueRow, target: QueueRow, seq: int, letter: _Letter, claims: int
) -> tuple[bytes | None, MessageId]:
    """It begins anew, with no attempt counted; but claims go on, so that no lease from before its death fits it."""
    found = tx.row("move_to_lane", target.lane, tx.now, None, claims, seq)
    assert found is not None
    message_id, priority, key, headers, size = found
    tx.run("insert_ready", target.lane, keys.OPEN, priority, tx.now, seq, claims, claims, 0)
    shortened = None if letter.error is None else letter.error[:ERROR_CHARS_MAX]
    facts = (row.name, str(letter.reason), shortened, tx.now, letter.max_retries)
    tx.run("put_dead_letter", target.lane, seq, *facts)
    tx.count(target.lane, 1, size)
    gate_key = target.gate_key(key)
    if gate_key is not None:
        keys.add_key(tx, target, gate_key, seq, priority, tx.now)
    if not target.holds_dead:
        tx.run("mark_holds_dead", target.lane)
        tx.catalog.bump(tx)
    if not target.levels >> priority & 1:
        append.use_level(tx, target, priority)
    tx.wake(target)
    return headers, message_id


def _alert(tx: Transaction, queue: str, body: bytes) -> None:
    row = tx.catalog.ensure(tx, queue)
    draft = Draft(
        id=tx.ids.new(),
        queue=row.name,
        body=body,
        content_type=ContentType.JSON,
        priority=Priority.NORMAL,
    )
    append.append_one(tx, row, draft)  # past the backlog check: an alert is owed whatever the depth
