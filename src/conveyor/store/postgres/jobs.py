"""What is kept of jobs: written with settlements and deaths, read with the messages that carry them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
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
from conveyor.store.postgres.append import CONTENT_TYPES, Depths, append
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.transaction import Row, Transaction, storable
from conveyor.store.records import SWEEP_ROWS_MAX

_PAGE: Final = 200


async def put_outcomes(tx: Transaction, outcomes: Sequence[JobRecord]) -> None:
    """How jobs ended whose leases have just ended with an ack."""
    await tx.run_many("put_job", [_columns(tx, each) for each in outcomes])


async def put_failure(tx: Transaction, record: JobRecord, *, put_off: bool = False) -> None:
    """An attempt that did not succeed; of those that were put off, and not counted, only the last is kept."""
    if put_off:
        await tx.run("drop_put_off", record.id, record.attempts)
    await tx.run("put_job", *_columns(tx, record))
    state = JobState.SCHEDULED if put_off else record.state
    await tx.run(
        "put_attempt",
        *(record.id, record.started_at, record.attempts, state.value, record.ended_at, record.worker),
        *(_storable(record.error), record.fingerprint, record.next_at),
    )


def _columns(tx: Transaction, record: JobRecord) -> tuple[object, ...]:
    queue = tx.catalog.called_now(record.queue)
    return (
        *(record.id, record.name, queue, record.state.value, record.enqueued_at, record.started_at),
        *(record.ended_at, record.attempts, record.worker, record.result, record.result_until, _storable(record.error)),
        *(record.fingerprint, record.next_at, record.expires_at),
    )


def _storable(error: str | None) -> str | None:
    return None if error is None else storable(error)


async def note_settled(tx: Transaction, each: Settlement, *, died: bool) -> None:
    """What a worker says of an attempt that did not succeed."""
    outcome = each.outcome
    if outcome is None:
        return
    if died and outcome.state is JobState.RETRYING:
        outcome = replace(outcome, state=dead_state(each.reason or DeadReason.RETRIES), next_at=None)
    await put_failure(tx, outcome, put_off=each.action is Action.RELEASE)


async def note_death(tx: Transaction, row: QueueRow, seq: int, reason: str, error: str | None, attempts: int) -> None:
    """Whose message is about to be dead-lettered. A worker that knows more says it afterwards."""
    await _note(tx, row, seq, dead_state(reason), error or reason, attempts)


async def note_failure(tx: Transaction, row: QueueRow, seq: int, error: str | None, attempts: int) -> None:
    """Whose worker died, and that will be tried again."""
    await _note(tx, row, seq, JobState.RETRYING, error, attempts)


async def _note(tx: Transaction, row: QueueRow, seq: int, state: JobState, error: str | None, attempts: int) -> None:
    if not row.tracks_jobs or seq in tx.told:
        return
    await tx.flush()
    known = await tx.row("read_job_id", seq)
    found = None if known is None or job_name(known[1]) is None else await find_job(tx, known[0])
    if found is not None and not (state is JobState.RETRYING and _is_to_end(found)):
        await put_failure(tx, unended(found, tx.now, state=state, attempts=attempts, error=error))


def _is_to_end(found: JobFound) -> bool:
    """It will not be tried again: whoever puts its message back finds that it was cancelled."""
    return found.record is not None and found.record.cancel_at is not None


async def is_cancelled(tx: Transaction, row: QueueRow, seq: int) -> bool:
    """Whether the job of a message that would be tried again is to end instead; then its record says so."""
    if not row.tracks_jobs:
        return False
    wanted = await tx.row("read_cancel", seq)
    found = None if wanted is None else await find_job(tx, wanted[0])
    if found is None:
        return False
    await tx.run("put_job", *_columns(tx, cancelled(found, tx.now)))
    return True


async def find_job(tx: Transaction, id: MessageId) -> JobFound | None:
    found = await find_jobs(tx, [id])
    return found[0] if found else None


async def find_jobs(tx: Transaction, ids: Sequence[MessageId]) -> list[JobFound]:
    """Messages first: one that ends in between has its record by then."""
    await tx.flush()
    messages = await find_messages(tx, ids)
    records = {row[0]: _record(row) for row in await tx.rows("read_jobs", ids)}
    carrying = {id for id, message in messages.items() if job_name(message.headers) is not None}
    return [
        JobFound(message=messages.get(id), record=records.get(id))
        for id in dict.fromkeys(ids)
        if id in carrying or id in records
    ]


async def find_messages(tx: Transaction, ids: Sequence[MessageId]) -> dict[MessageId, Peeked]:
    read = [_message(tx, row) for row in await tx.rows("read_job_messages", ids)]
    return {each.id: each for each in read if each is not None}


def _message(tx: Transaction, found: Row) -> Peeked | None:
    row = tx.catalog.of_lane(found[1])
    if row is None:  # purged
        return None
    seq, _lane, message_id, body, content, sent_at, ready_at, attempts, leased, priority, key, headers, *dead = found
    origin_queue, reason, dead_at, last_error = dead
    letter = None
    if origin_queue is not None:
        letter = DeadLetter(origin_queue=origin_queue, reason=reason, dead_at=dead_at, last_error=last_error)
    return Peeked(
        seq=seq, id=message_id, queue=row.name, body=body, content_type=CONTENT_TYPES[content], sent_at=sent_at,
        ready_at=ready_at, attempts=attempts, leased=leased, priority=priority, key=key, headers=headers,
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


async def list_jobs(tx: Transaction, asked: JobsAsked) -> JobPage:
    """Newest first. A page may hold fewer than `limit`, and still not be the last."""
    await tx.flush()
    jobs: list[JobFound] = []
    before, looked_at = asked.before, 0
    while looked_at < LOOKED_AT_MAX:
        messages = await tx.rows("list_job_messages", before, _PAGE)
        kept = await tx.rows("list_jobs", before, asked.name, asked.queue, asked.fingerprint, _PAGE)
        ids, is_more = merge([[row[0] for row in messages], [row[0] for row in kept]], _PAGE)
        carrying = {row[0] for row in messages if job_name(row[1]) is not None} | {row[0] for row in kept}
        found = {each.id: each for each in await find_jobs(tx, [id for id in ids if id in carrying])}
        for id in ids:
            before, looked_at = id, looked_at + 1
            job = found.get(id)
            if job is not None and fits(asked, job, tx.now):
                jobs.append(job)
                if len(jobs) == asked.limit:
                    return JobPage(jobs=jobs, next_before=before)
        if not is_more:
            return JobPage(jobs=jobs, next_before=None)
    return JobPage(jobs=jobs, next_before=before)


async def list_attempts(tx: Transaction, id: MessageId, limit: int) -> list[JobAttempt]:
    return [
        JobAttempt(
            attempt=attempt, state=JobState(state), started_at=started_at, ended_at=ended_at, worker=worker,
            error=error, fingerprint=fingerprint, next_at=next_at,
        )
        for attempt, state, started_at, ended_at, worker, error, fingerprint, next_at in await tx.rows(
            "list_attempts", id, limit
        )
    ]  # fmt: skip


async def group_errors(tx: Transaction, name: str | None, limit: int) -> list[ErrorGroup]:
    return [
        ErrorGroup(fingerprint=fingerprint, name=job, error=error, jobs=jobs, last_at=last_at)
        for fingerprint, job, error, jobs, last_at in await tx.rows("group_errors", name, limit)
    ]


async def beat_jobs(tx: Transaction, running: Sequence[JobRecord]) -> list[MessageId]:
    """Those that are to end."""
    wanted = []
    for each in running:
        queue = tx.catalog.called_now(each.queue)
        found = await tx.row(
            "beat_job",
            *(each.id, each.name, queue, each.enqueued_at, each.started_at, each.attempts, each.worker),
            each.expires_at,
        )
        if found is None:  # it has ended, as far as this store knows
            found = await tx.row("read_wish", each.id)
        if found is not None and found[0] is not None:
            wanted.append(each.id)
    return wanted


TakeOut: TypeAlias = Callable[[Transaction, QueueRow, Peeked], Awaitable[bool]]


async def cancel_job(tx: Transaction, id: MessageId, take_out: TakeOut) -> JobFound | None:
    """One that waits is taken out, one that runs is asked to end, one that is final stays as it is."""
    while True:
        found = await find_job(tx, id)
        if found is None or found.message is None or found.message.dead is not None:
            return found
        if await _cancel(tx, found, found.message, take_out):
            return await find_job(tx, id)


async def _cancel(tx: Transaction, found: JobFound, message: Peeked, take_out: TakeOut) -> bool:
    """False: somebody has taken it, or let it go, since it was found."""
    if message.leased:
        if await tx.row("find_lease", message.seq) is None:  # locked from here on: whoever ends it sees our wish
            return False
        facts = (found.id, found.name, found.queue, message.sent_at, message.attempts, tx.now, tx.now + RECORD_MS)
        await tx.run("ask_job_to_end", *facts)
        return True
    row = tx.catalog.get(message.queue)
    if not await take_out(tx, row, message):
        return False
    await tx.run("put_job", *_columns(tx, unended(found, tx.now, state=JobState.CANCELLED)))
    tx.wake(row)
    return True


async def replace_job(tx: Transaction, draft: Draft, take_out: TakeOut, depths: Depths) -> Sent:
    """In the place of the one with its dedupe key: that is cancelled, if it waits; one that runs goes on beside it."""
    row = tx.catalog.get(draft.queue)
    await tx.flush()
    await tx.row("lock_dedupe", [row.lane], [draft.dedupe])
    present = await tx.row("find_dedupe", row.lane, draft.dedupe, tx.now)
    if present is not None:
        cancelled = await find_job(tx, present[0])
        if cancelled is not None and cancelled.message is not None and not cancelled.message.leased:
            await cancel_job(tx, present[0], take_out)
        await tx.run("drop_dedupe", row.lane, draft.dedupe)
    return (await append(tx, [draft], depths))[0]


async def read_obstacles(tx: Transaction, id: MessageId) -> Obstacles:
    await tx.flush()
    found = await tx.row("read_obstacles", tx.now, AHEAD_MAX, id)
    row = None if found is None else tx.catalog.of_lane(found[0])
    if found is None or row is None:
        return Obstacles()
    return judge_obstacles(row.consumer, tx.now, *found[1:])


async def sweep_jobs(tx: Transaction) -> int:
    """One walk of the index for all tables: before those that are over lie the entries of millions that are gone, until
    the next vacuum. While there are more than a sweep takes, each begins where the last one ended."""
    over = await tx.rows("jobs_over", tx.marks.jobs_over, tx.now, SWEEP_ROWS_MAX)
    if not over and tx.marks.jobs_over:
        over = await tx.rows("jobs_over", 0, tx.now, SWEEP_ROWS_MAX)
    ids = [id for id, _ in over]
    if not over or await tx.run("sweep_report_lines", ids, SWEEP_ROWS_MAX) == SWEEP_ROWS_MAX:
        tx.marks.jobs_over = 0
        return 0  # and the rest of their lines the next time
    for name in ("sweep_reports", "sweep_attempts", "sweep_steps", "sweep_events"):
        await tx.run(name, ids)
    tx.marks.jobs_over = over[-1][1] if len(over) == SWEEP_ROWS_MAX else 0
    return await tx.run("sweep_jobs", ids, tx.now)
