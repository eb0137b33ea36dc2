"""The plain path: sends, claims and acks that need no look at keys, slots or limits are one call of a function in the
database (migration 0003): one round trip, one transaction.

None is the answer where the way is not plain, as far as this process knows the queues or as the database says. Nothing
is written then, and the caller goes the long way, which also learns what has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from conveyor.model.errors import OutcomeUnknownError
from conveyor.model.job import JobRecord
from conveyor.model.message import Draft, Lease, Sent
from conveyor.model.verdict import Action, Settlement
from conveyor.store.postgres import claim as long_way
from conveyor.store.postgres import keys
from conveyor.store.postgres.append import CONTENT_CODES, CONTENT_TYPES, Depths
from conveyor.store.postgres.catalog import Catalog, QueueRow
from conveyor.store.postgres.faults import is_lost
from conveyor.store.postgres.link import CommitLostError, Link
from conveyor.store.postgres.marks import HEAD
from conveyor.store.postgres.transaction import Row, Transaction
from conveyor.store.records import PULL_OWNER, Claimed, ClaimRequest, Settled

# Columns of `claim_plain`: what each row says of the whole claim, then the message.
_NOW, _NEXT, _SUSPECTS, _LEVEL, _SEQ, _READY_AT, _CLAIMS, _RELEASES, _CRASHES, _ID = range(10)
_BODY, _CONTENT, _SENT_AT, _KEY, _HEADERS, _EXPIRES_AT, _FIRST = range(10, 17)

T = TypeVar("T")

Told: TypeAlias = tuple[T | None, frozenset[str]]
"""An answer, and the queues to wake."""

_NOBODY: Final = frozenset[str]()
"""Wakes no queue."""
THROTTLE_MARGIN_MS: Final = 1_000
"""A throttle that ended less than this ago is judged by the store's own time, the long way."""


async def append(
    link: Link, calls: Sequence[Sequence[Draft]], depths: Depths, words: str | None
) -> Told[list[list[Sent]]]:
    """T1 for a commit group. With `words` the other processes are told in the same transaction."""
    drafts = [draft for call in calls for draft in call]
    rows = _plain_rows(link.shared.catalog, drafts)
    if rows is None:
        return None, _NOBODY
    asked = _asked(rows, drafts, depths)
    answers = [[Sent(draft.id) for draft in call] for call in calls]
    writer, number = link.next_receipt()
    try:
        (said,) = await link.call(
            "append_plain",
            *(link.shared.catalog.version, link.shared.bound_now()),
            *_columns(rows, drafts),
            *(zip(*asked, strict=True) if asked else ((), (), ())),
            *(writer, number, words),
        )
    except BaseException as error:
        if is_lost(error):
            raise CommitLostError(writer, number, answers, frozenset(rows)) from error
        raise
    is_done, now, messages, sizes = said
    link.shared.set_clock(now)
    if asked and messages is not None:
        for (lane, *_), waiting, waiting_bytes in zip(asked, messages, sizes, strict=True):
            depths.learn(lane, waiting, waiting_bytes)
    return (answers if is_done else None), (_NOBODY if words or not is_done else frozenset(rows))


def _plain_rows(catalog: Catalog, drafts: Iterable[Draft]) -> dict[str, QueueRow] | None:
    """The drafts' queues, if there are any, all are known, and no message needs more than its two rows."""
    rows: dict[str, QueueRow] = {}
    for draft in drafts:
        row = rows.get(draft.queue) or catalog.find(draft.queue)
        if row is None or draft.dedupe is not None or draft.cost != 1 or not row.levels >> draft.priority & 1:
            return None
        if row.gates_keys and row.gate_key(draft.key) is not None:
            return None
        rows[draft.queue] = row
    return rows or None


def _asked(rows: dict[str, QueueRow], drafts: Sequence[Draft], depths: Depths) -> list[tuple[int, int, int]]:
    """Lanes whose depth has to be summed before this send, with the messages and bytes that may lie there for the
    limits to be far."""
    asked = []
    for name, row in rows.items():
        sizes = [len(draft.body) for draft in drafts if draft.queue == name]
        if not depths.is_far(row, len(sizes), sum(sizes)):
            asked.append((row.lane, *depths.rooms(row, len(sizes), sum(sizes))))
    return asked


def _columns(rows: dict[str, QueueRow], drafts: Sequence[Draft]) -> Iterator[Any]:
    """In the order of `append_plain`. What is the same for all goes once: most of a column's price is its encoding."""
    yield [draft.id for draft in drafts]
    yield [draft.body for draft in drafts]
    yield from _once([rows[draft.queue].lane for draft in drafts])
    yield from _once([CONTENT_CODES[draft.content_type] for draft in drafts])
    yield from _once([_delay_ms(rows[draft.queue], draft) for draft in drafts])
    yield from _once([int(draft.priority) for draft in drafts])
    yield _if_any([draft.key for draft in drafts])
    yield _if_any([draft.headers for draft in drafts])
    yield _if_any([draft.expires_in_ms for draft in drafts])
    yield _if_any([draft.max_retries for draft in drafts])


def _delay_ms(row: QueueRow, draft: Draft) -> int:
    return row.settings.delivery_delay_ms if draft.delay_ms is None else draft.delay_ms


def _once(column: list[int]) -> tuple[list[int] | None, int | None]:
    return (None, column[0]) if len(set(column)) == 1 else (column, None)


def _if_any(column: list[T]) -> list[T] | None:
    return column if any(each is not None for each in column) else None


class Taken(msgspec.Struct, frozen=True):
    """The answer to a claim, and those of its leases that are past their end: they are to be buried."""

    claimed: Claimed
    past: list[Row]


async def claim(link: Link, request: ClaimRequest) -> Told[Taken]:
    """T2 for a worker."""
    row = link.shared.catalog.find(request.queue)
    if row is None or not _is_plain_claim(row, request, link.shared.clock.now_ms()):
        return None, _NOBODY
    level = (row.lane, keys.OPEN, row.priorities[0])
    start = link.shared.marks.start(level) if len(row.priorities) == 1 else HEAD
    said = await _claim_after(link, row, request, start, request.limit)
    if said is None:
        return None, _NOBODY
    found = _messages(said)
    if start != HEAD and not found and link.shared.marks.is_worth_a_look(level):
        again = await _claim_after(link, row, request, HEAD, request.limit)
        if again is not None:
            said, found = again, _messages(again)
    now = said[0][_NOW]
    past = [each for each in found if long_way.is_past(row, now, each[_EXPIRES_AT], each[_FIRST])]
    claimed = Claimed(
        leases=[_lease(each, row.name) for each in found if each not in past],
        opens_at=said[0][_NEXT] if len(found) < request.limit else None,
        suspects=said[0][_SUSPECTS],
        version=row.version,
    )
    return Taken(claimed, past), _NOBODY


def _is_plain_claim(row: QueueRow, request: ClaimRequest, now: int) -> bool:
    if request.owner == PULL_OWNER or request.suspects or request.batch_size > 1 or not row.levels:
        return False
    if row.paused or row.throttled_until > now - THROTTLE_MARGIN_MS:
        return False
    return not row.is_judged and (row.consumer is None or row.consumer.calls_max is None)


async def _claim_after(
    link: Link, row: QueueRow, request: ClaimRequest, start: tuple[int, int], limit: int
) -> list[Row] | None:
    """The rows of `claim_plain`, at least one; None if it declined."""
    marks, changes = link.shared.marks, link.shared.marks.changes
    began = marks.monotonic()
    try:
        said = await link.call(
            "claim_plain",
            *(link.shared.catalog.version, link.shared.bound_now(), request.owner, row.lane, row.priorities),
            *(*start, limit),
        )
    except BaseException as error:
        if is_lost(error):  # what was leased, if anything, is found by its owner's next look at its leases
            raise OutcomeUnknownError(f"a claim's answer was lost: {error}") from error
        raise
    if not said:
        return None
    link.shared.set_clock(said[0][_NOW])
    last = said[-1]
    if last[_LEVEL] is not None and len(row.priorities) == 1:
        level, place = (row.lane, keys.OPEN, last[_LEVEL]), (last[_READY_AT], last[_SEQ])
        if start == HEAD:
            marks.looked(level, place, began, changes)
        else:
            marks.moved(level, place, changes)
    return said


def _messages(said: list[Row]) -> list[Row]:
    return [each for each in said if each[_LEVEL] is not None]


def _lease(found: Row, queue: str) -> Lease:
    return Lease(
        seq=found[_SEQ],
        claim=found[_CLAIMS] + 1,
        id=found[_ID],
        queue=queue,
        body=found[_BODY],
        content_type=CONTENT_TYPES[found[_CONTENT]],
        sent_at=found[_SENT_AT],
        releases=found[_RELEASES],
        key=found[_KEY],
        headers=found[_HEADERS],
    )


async def replace_past(tx: Transaction, request: ClaimRequest, taken: Taken) -> Claimed:
    """T10 for what `claim` found to be past its end, and as many messages in its stead."""
    row = tx.catalog.get(request.queue)
    for each in taken.past:
        await long_way.bury_past(tx, row, request.owner, each[_SEQ], claims=each[_CLAIMS], releases=each[_RELEASES])
    leases = taken.claimed.leases
    more = await long_way.claim(tx, msgspec.structs.replace(request, limit=request.limit - len(leases)))
    return msgspec.structs.replace(more, leases=leases + more.leases)


async def ack(link: Link, owner: int, settlements: Sequence[Settlement]) -> Told[Settled]:
    """T3. What is acked twice is gone the second time, and not counted, so that a lost answer needs no receipt."""
    catalog = link.shared.catalog
    if catalog.gates_keys or any(each.action is not Action.ACK or each.is_member for each in settlements):
        return None, _NOBODY
    facts = (
        *(catalog.version, owner, [each.seq for each in settlements], [each.claim for each in settlements]),
        [row.lane for row in catalog.rows.values() if row.holds_dead],
    )
    outcomes = [(each.seq, each.outcome) for each in settlements if each.outcome is not None]
    if outcomes:
        columns = zip(*(_job_columns(catalog, *each) for each in outcomes), strict=True)
        (said,) = await link.call("ack_jobs", *facts, *columns)
    else:
        (said,) = await link.call("ack_plain", *facts)
    is_done, lost = said
    return (Settled(lost, []) if is_done else None), _NOBODY


def _job_columns(catalog: Catalog, seq: int, job: JobRecord) -> tuple[Any, ...]:
    """In the order of `ack_jobs`."""
    return (
        *(seq, job.id, job.name, catalog.called_now(job.queue), job.state.value),
        *(job.enqueued_at, job.started_at, job.ended_at, job.attempts, job.worker),
        *(job.result, job.result_until, job.expires_at),
    )
