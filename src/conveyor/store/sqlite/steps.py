"""Steps within jobs, and events that are sent to them."""

from __future__ import annotations

from conveyor.model.errors import LeaseLostError
from conveyor.model.ids import MessageId, show_id
from conveyor.model.job import RECORD_MS
from conveyor.model.message import Peeked
from conveyor.model.step import EVENTS_MAX, JobEvent, StepKind, StepRecord
from conveyor.store.sqlite import jobs, keys
from conveyor.store.sqlite.transaction import Row, Transaction
from conveyor.store.steps import Holder, Kept, Told


def read_kept(tx: Transaction, id: MessageId) -> Kept:
    steps = [_step(found) for found in tx.rows("read_steps", id)]
    return Kept(steps=steps, events=[_event(found) for found in tx.rows("read_events", id)])


def write_step(tx: Transaction, holder: Holder, step: StepRecord, *, is_first: bool) -> JobEvent | None:
    fence = (holder.owner, holder.seq, holder.claim)
    if step.kind is StepKind.WAIT:
        event = None if tx.row("hold_lease", *fence) is None else tx.row("read_event", holder.id, step.name)
        if event is not None:
            return _event(event)
    facts = (step.kind.value, step.name, step.attempt, step.began_at, step.ended_at, step.until, step.value)
    if not tx.run("put_step", holder.id, *facts, *fence):
        raise LeaseLostError(show_id(holder.id))
    if is_first:
        queue = tx.catalog.called_now(tx, holder.queue)
        job = (holder.id, holder.name, queue, holder.enqueued_at, holder.attempts)
        tx.run("keep_job", *job, tx.now + RECORD_MS)
    return None


def send_event(tx: Transaction, id: MessageId, name: str, payload: bytes) -> Told:
    found = jobs.find_job(tx, id)
    if found is None or found.message is None or found.message.dead is not None:
        return Told(job=found)
    if tx.row("read_event", id, name) is not None:
        return Told(job=found, is_kept=True)
    count = tx.row("count_events", id)
    if count is None or count[0] >= EVENTS_MAX:
        return Told(job=found)
    message = found.message
    tx.run("keep_job", id, found.name, found.queue, message.sent_at, message.attempts, tx.now + RECORD_MS)
    tx.run("put_event", id, name, payload, tx.now)
    if not message.leased and message.ready_at > tx.now and tx.row("is_awaited", id, name) is not None:
        _wake(tx, message)
    return Told(job=found, is_kept=True)


def _wake(tx: Transaction, message: Peeked) -> None:
    """READY later -> READY now."""
    row, seq = tx.catalog.get(tx, message.queue), message.seq
    found = tx.row("take_ready", row.lane, message.priority, message.ready_at, seq)
    assert found is not None, "it is ready, and nobody else may take it"
    shelf, *counts = found
    shelf = keys.SUSPECT if shelf == keys.SUSPECT else keys.OPEN
    tx.run("write_ready_at", tx.now, seq)
    tx.run("insert_ready", row.lane, shelf, message.priority, tx.now, seq, *counts)
    gate_key = row.gate_key(message.key)
    if gate_key is not None:
        keys.end_turn(tx, row, gate_key, seq, message.priority, tx.now)
    tx.wake(row)


def park(tx: Transaction, seq: int, ready_at: int, events: tuple[str, ...]) -> int:
    """A job puts itself off until `ready_at`: when it really is ready, since one of these events may be there."""
    if any(tx.row("has_event", seq, name) is not None for name in events):
        return tx.now
    tx.run("park_message", ready_at, seq)
    tx.run("keep_parked_job", ready_at + RECORD_MS, seq)
    return ready_at


def _step(found: Row) -> StepRecord:
    kind, name, attempt, began_at, ended_at, until, value = found
    return StepRecord(
        kind=StepKind(kind), name=name, attempt=attempt, began_at=began_at, ended_at=ended_at, until=until, value=value
    )


def _event(found: Row) -> JobEvent:
    return JobEvent(name=found[0], payload=found[1], sent_at=found[2])
