"""Changes that somebody watches: what was, the change, what is, and the record of it, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.errors import QueueNotFoundError
from conveyor.model.ids import MessageId
from conveyor.store.records import TRAIL_KIND
from conveyor.store.sqlite import alarms, deliveries, documents, groups, jobs, queues, schedules
from conveyor.store.sqlite.transaction import Transaction
from conveyor.store.sqlite.writer import Writer
from conveyor.store.witness import Change, Witness, current_witness, read_hex, split_name, subject_after, subject_of

T = TypeVar("T")


async def change(writer: Writer, kind: str, name: str, run: Callable[[Transaction], T], *, keeps_trail: bool) -> T:
    """Submit a change; `run` alone, if nobody watches."""
    witness = current_witness()
    if witness is None:
        return await writer.submit(run)
    subject = subject_of(kind, name)
    answer, body = await writer.submit(lambda tx: _watch(tx, witness, subject, run, keeps_trail=keeps_trail))
    witness.tell(body, is_written=keeps_trail)
    return answer


def _watch(
    tx: Transaction, witness: Witness, subject: tuple[str, str], run: Callable[[Transaction], T], *, keeps_trail: bool
) -> tuple[T, bytes | None]:
    if keeps_trail:
        head = documents.get_document(tx, TRAIL_KIND, witness.trail)
        witness.examine(b"" if head is None else head.body)
    before = _look(tx, *subject)
    answer = run(tx)
    after = _look(tx, *subject_after(*subject, answer))
    seen = Change(kind=subject[0], name=subject[1], before=before, after=after, answer=answer)
    body = witness.describe(seen, tx.now)
    if body is not None and keeps_trail:
        documents.append_record(tx, witness.trail, body, witness.seal)
    return answer, body


def _look(tx: Transaction, kind: str, name: str) -> object:
    look = _LOOKS.get(kind)
    try:
        return None if look is None else look(tx, name)
    except (QueueNotFoundError, ScheduleNotFoundError):
        return None


def _find_job(tx: Transaction, name: str) -> object:
    tx.flush()
    return next(iter(jobs.find_jobs(tx, [MessageId(read_hex(name))])), None)


def _find_message(tx: Transaction, name: str) -> object:
    queue, id = split_name(name)
    return queues.find_message(tx, queue, MessageId(read_hex(id)))


_LOOKS: Final[Mapping[str, Callable[[Transaction, str], Any]]] = {
    "queue": queues.get_queue,
    "schedule": schedules.get_schedule,
    "alarm": alarms.get_alarm,
    "job": _find_job,
    "group": lambda tx, name: groups.find_group(tx, MessageId(read_hex(name))),
    "delivery": lambda tx, name: deliveries.get_delivery(tx, MessageId(read_hex(name))),
    "message": _find_message,
    "document": lambda tx, name: documents.get_document(tx, *split_name(name)),
}
"""Of what has none here, what it was is not shown."""
