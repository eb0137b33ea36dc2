"""What is kept of jobs: written with settlements and deaths, read with the messages that carry them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from msgspec.structs import replace

from conveyor.model.ids import MessageId
from conveyor.model.job import RECORD_MS, ErrorGroup, JobAttempt, JobRecord, JobState
from conveyor.model.message import DeadLetter, Draft, Peeked, Sent
from conveyor.model.verdict import Action, DeadReason, Settlement
from conveyor.store.jobs import (
    AHEAD_MAX,
    LOOKED_AT_MAX,
    JobFound,
    JobPage,
    JobsAsked,
    Obstacles,
    cancelled,
    dead_state,
    fits,
    job_name,
    judge_obstacles,
    merge,
    unended,
)
from conveyor.store.records import SWEEP_ROWS_MAX
from conveyor.store.sqlite.append import CONTENT_TYPES, append
from conveyor.store.sqlite.catalog import QueueRow
from conveyor.store.sqlite.transaction import Row, Transaction

_PAGE: Final = 200


def put_outcomes(tx: Transaction, outcomes: Sequence[JobRecord]) -> None:
    """How jobs ended whose leases have just ended with an ack."""
    tx.run_many("put_job", [_columns(tx, each) for each in outcomes])


def put_failure(tx: Transaction, record: JobRecord, *, put_off: bool = False) -> None:
    """An attempt that did not succeed; of those that were put off, and not counted, only the last is kept."""
    if put_off:
        tx.run("drop_put_off", record.id, record.attempts)
    tx.run("put_job", *_columns(tx, record))
    state = JobState.SCHEDULED if put_off else record.state
    tx.run(
        "put_attempt",
        *(record.id, record.started_at, record.attempts, state.value, record.ended_at, record.worker),
        *(record.error, record.fingerprint, record.next_at),
    )


def _columns(tx: Transaction, record: JobRecord) -> tuple[object, ...]:
    queue = tx.catalog.called_now(tx, record.queue)
    return (
        *(record.id, record.name, queue, record.state.value, record.enqueued_at, record.started_at),
        *(record.ended_at, record.attempts, record.worker, record.result, record.result_until, record.error),
        *(record.fingerprint, record.next_at, record.expires_at),
    )


def note_settled(tx: Transaction, each: Settlement, *, died: bool) -> None:
    """What a worker says of an attempt that did not succeed."""
    outcome = each.outcome
    if outcome is None:
        return
    if died and outcome.state is JobState.RETRYING:
        outcome = replace(outcome, state=dead_state(each.reason or DeadReason.RETRIES), next_at=None)
    put_failure(tx, outcome, put_off=each.action is Action.RELEASE)


def note_death(tx: Transaction, row: QueueRow, seq: int, reason: str, error: str | None, attempts: int) -> None:
    """Whose message is about to be dead-lettered. A worker that knows more says it afterwards."""
    _note(tx, row, seq, dead_state(reason), error or reason, attempts)


def note_failure(tx: Transaction, row: QueueRow, seq: int, error: str | None, attempts: int) -> None:
    """Whose worker died, and that will be tried again."""
    _note(tx, row, seq, JobState.RETRYING, error, attempts)


def _note(tx: Transaction, row: QueueRow, seq: int, state: JobState, error: str | None, attempts: int) -> None:
    if not row.tracks_jobs or seq in tx.told:
        return
    tx.flush()
    known = tx.row("read_job_id", seq)
    found = None if known is None or job_name(known[1]) is None else find_job(tx, known[0])
    if found is not None and not (state is JobState.RETRYING and _is_to_end(found)):
        put_failure(tx, unended(found, tx.now, state=state, attempts=attempts, error=error))


def _is_to_end(found: JobFound) -> bool:
    """It will not be tried again: whoever puts its message back finds that it was cancelled."""
    return found.record is not None and found.record.cancel_at is not None


def is_cancelled(tx: Transaction, row: QueueRow, seq: int) -> bool:
    """Whether the job of a message that would be tried again is to end instead; then its record says so."""
    if not row.tracks_jobs:
        return False
    wanted = tx.row("read_cancel", seq)
    found = None if wanted is None else find_job(tx, wanted[0])
    if found is None:
        return False
    tx.run("put_job", *_columns(tx, cancelled(found, tx.now)))
    return True


def find_job(tx: Transaction, id: MessageId) -> JobFound | None:
    tx.flush()
    record = tx.row("read_job", id)
    message = find_message(tx, id)
    if record is None and (message is None or job_name(message.headers) is None):
        return None
    return JobFound(message=message, record=None if record is None else _record(record))


def find_jobs(tx: Transaction, ids: Sequence[MessageId]) -> list[JobFound]:
    return [found for id in ids if (found := find_job(tx, id)) is not None]


def find_message(tx: Transaction, id: MessageId) -> Peeked | None:
    found = tx.row("read_job_message", id)
    row = None if found is None else tx.catalog.of_lane(tx, found[1])
    if found is None or row is None:
        return None
    seq, _lane, message_id, body, content, sent_at, ready_at, attempts, leased, priority, key, headers, *dead = found
    origin_queue, reason, dead_at, last_error = dead
    letter = None
    if origin_queue is not None:
        letter = DeadLetter(origin_queue=origin_queue, reason=reason, dead_at=dead_at, last_error=last_error)
    return Peeked(
        seq=seq, id=message_id, queue=row.name, body=body, content_type=CONTENT_TYPES[content], sent_at=sent_at,
        ready_at=ready_at, attempts=attempts, leased=bool(leased), priority=priority, key=key, headers=headers,
        dead=letter,
    )  # fmt: skip


def _record(found: Row) -> JobRecord:
    id, name, queue, state, enqueued_at, started_at, ended_at, attempts, worker, *rest = found
    result, result_until, error, fingerprint, next_at, cancel_at, expires_at = rest
    return JobRecord(
        id=id, name=name, queue=queue, state=JobState(state), enqueued_at=enqueued_at, started_at=started_at,
        ended_at=ended_at, attempts=attempts, worker=worker, result=result, result_until=result_until, error=error,
        fingerprint=fingerprint, next_at=next_at, cancel_at=cancel_at, expires_at=expires_at,
    )  # fmt: skip


def list_jobs(tx: Transaction, asked: JobsAsked) -> JobPage:
    """Newest first. A page may hold fewer than `limit`, and still not be the last."""
    tx.flush()
    jobs: list[JobFound] = []
    before, looked_at = asked.before, 0
    while looked_at < LOOKED_AT_MAX:
        messages = tx.rows("list_job_messages", before, _PAGE)
        kept = tx.rows("list_jobs", before, asked.name, asked.queue, asked.fingerprint, _PAGE)
        ids, is_more = merge([[row[0] for row in messages], [row[0] for row in kept]], _PAGE)
        carrying = {row[0] for row in messages if job_name(row[1]) is not None} | {row[0] for row in kept}
        for id in ids:
            before, looked_at = id, looked_at + 1
            found = find_job(tx, id) if id in carrying else None
            if found is not None and fits(asked, found, tx.now):
                jobs.append(found)
                if len(jobs) == asked.limit:
                    return JobPage(jobs=jobs, next_before=before)
        if not is_more:
            return JobPage(jobs=jobs, next_before=None)
    return JobPage(jobs=jobs, next_before=before)


def list_attempts(tx: Transaction, id: MessageId, limit: int) -> list[JobAttempt]:
    return [
        JobAttempt(
            attempt=attempt, state=JobState(state), started_at=started_at, ended_at=ended_at, worker=worker,
            error=error, fingerprint=fingerprint, next_at=next_at,
        )
        for attempt, state, started_at, ended_at, worker, error, fingerprint, next_at in tx.rows(
            "list_attempts", id, limit
        )
    ]  # fmt: skip


def group_errors(tx: Transaction, name: str | None, limit: int) -> list[ErrorGroup]:
    return [
        ErrorGroup(fingerprint=fingerprint, name=job, error=error, jobs=jobs, last_at=last_at)
        for fingerprint, job, error, jobs, last_at in tx.rows("group_errors", name, limit)
    ]


def beat_jobs(tx: Transaction, running: Sequence[JobRecord]) -> list[MessageId]:
    """Those that are to end."""
    wanted = []
    for each in running:
        queue = tx.catalog.called_now(tx, each.queue)
        found = tx.row(
            "beat_job",
            *(each.id, each.name, queue, each.enqueued_at, each.started_at, each.attempts, each.worker),
            each.expires_at,
        )
        if found is None:  # it has ended, as far as this store knows
            found = tx.row("read_wish", each.id)
        if found is not None and found[0] is not None:
            wanted.append(each.id)
    return wanted


TakeOut: TypeAlias = Callable[[Transaction, QueueRow, Peeked], bool]


def cancel_job(tx: Transaction, id: MessageId, take_out: TakeOut) -> JobFound | None:
    """One that waits is taken out, one that runs is asked to end, one that is final stays as it is."""
    found = find_job(tx, id)
    if found is None or found.message is None or found.message.dead is not None:
        return found
    message = found.message
    if message.leased:
        facts = (id, found.name, found.queue, message.sent_at, message.attempts, tx.now, tx.now + RECORD_MS)
        tx.run("ask_job_to_end", *facts)
    else:
        row = tx.catalog.get(tx, message.queue)
        record = unended(found, tx.now, state=JobState.CANCELLED)
        if take_out(tx, row, message):
            tx.run("put_job", *_columns(tx, record))
        tx.wake(row)
    return find_job(tx, id)


def replace_job(tx: Transaction, draft: Draft, take_out: TakeOut) -> Sent:
    """In the place of the one with its dedupe key: that is cancelled, if it waits; one that runs goes on beside it."""
    row = tx.catalog.get(tx, draft.queue)
    tx.flush()
    present = tx.row("find_dedupe", row.lane, draft.dedupe, tx.now)
    if present is not None:
        cancelled = find_job(tx, present[0])
        if cancelled is not None and cancelled.message is not None and not cancelled.message.leased:
            cancel_job(tx, present[0], take_out)
        tx.run("drop_dedupe", row.lane, draft.dedupe)
    return append(tx, [draft])[0]


def read_obstacles(tx: Transaction, id: MessageId) -> Obstacles:
    tx.flush()
    found = tx.row("read_obstacles", tx.now, AHEAD_MAX, id)
    row = None if found is None else tx.catalog.of_lane(tx, found[0])
    if found is None or row is None:
        return Obstacles()
    return judge_obstacles(row.consumer, tx.now, *found[1:])


def sweep_jobs(tx: Transaction) -> int:
    if tx.run("sweep_report_lines", tx.now, SWEEP_ROWS_MAX) == SWEEP_ROWS_MAX:
        return 0  # and the rest of them the next time
    for name in ("sweep_reports", "sweep_attempts", "sweep_steps", "sweep_events"):
        tx.run(name, tx.now, SWEEP_ROWS_MAX)
    return tx.run("sweep_jobs", tx.now, SWEEP_ROWS_MAX)
