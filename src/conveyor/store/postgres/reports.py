"""`ReportStore` and `NoticeStore` of one schema."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.model.ids import MessageId
from conveyor.model.job import JobRecord
from conveyor.model.report import Kind, Report, Word
from conveyor.store.notices import NOTICES_MAX, Notice
from conveyor.store.postgres.job_store import Run
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.transaction import Row, Transaction, storable
from conveyor.store.reports import TRIM_ROWS, Said, as_millionths, bell_of, take_in, trim

_RELAXED = Durability.RELAXED


class PostgresReports:
    """Runs each operation in a transaction of its own. What a report said is on disk when the verdict that follows it
    is."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def write(self, owner: int, reports: Sequence[Report]) -> list[MessageId]:
        return await self._run(lambda tx: write_reports(tx, owner, reports), _RELAXED)

    async def find(self, id: MessageId) -> Said | None:
        return await self._run(lambda tx: find_said(tx, id), _RELAXED)

    async def read(self, id: MessageId, *, after: int, limit: int) -> list[Word]:
        return await self._run(lambda tx: list_lines(tx, id, after, limit), _RELAXED)


class PostgresNotices:
    """The same for notices."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def add(self, notices: Sequence[Notice]) -> None:
        await self._run(lambda tx: add_notices(tx, notices), _RELAXED)

    async def read(self, *, after: int, limit: int) -> list[Notice]:
        return await self._run(lambda tx: list_notices(tx, after, limit), _RELAXED)

    async def last(self) -> int:
        return await self._run(last_notice, _RELAXED)


async def write_reports(tx: Transaction, owner: int, reports: Sequence[Report]) -> list[MessageId]:
    """Those whose leases are lost. Leases are locked in one order, so that two who write do not wait for each other;
    while they are held nobody else writes these reports."""
    told = sorted(reports, key=lambda report: report.seq)
    leases = await tx.rows("hold_leases", [each.seq for each in told], [each.claim for each in told], owner)
    held = {seq for (seq,) in leases}
    heard = [each for each in told if each.seq in held]
    if heard:
        await _begin(tx, [each.record for each in heard if each.is_first])
        await _write(tx, heard)
    tx.woken.update(bell_of(each.record.queue) for each in heard)
    return [each.record.id for each in told if each.seq not in held]


async def _begin(tx: Transaction, records: Sequence[JobRecord]) -> None:
    if records:
        rows = [
            (r.id, r.name, r.queue, r.enqueued_at, r.started_at, r.attempts, r.worker, r.expires_at)
            for r in sorted(records, key=lambda record: record.id)
        ]
        await tx.run("beat_many", *zip(*rows, strict=True))


async def _write(tx: Transaction, reports: Sequence[Report]) -> None:
    found = await _find_all(tx, [each.record.id for each in reports])
    rows: list[tuple[object, ...]] = []
    kept: list[Said] = []
    for report in reports:
        id = report.record.id
        said, lines, drops_output = take_in(found.get(id, Said(id=id)), report.words)
        if drops_output:
            await tx.run("drop_output", id)
        kept.append(said)
        rows += [(id, w.number, w.kind.value, w.at, w.attempt, w.level, w.is_text, w.body) for w in lines]
    if rows:
        await tx.run_many("put_report_line", rows)
    await tx.run_many("put_report", [_columns(await _trimmed(tx, said)) for said in kept])


async def _trimmed(tx: Transaction, said: Said) -> Said:
    while said.is_over:
        said, last = trim(said, [(row[0], row[1]) for row in await tx.rows("oldest_log_lines", said.id, TRIM_ROWS)])
        await tx.run("drop_log_lines", said.id, last)
    return said


def _columns(said: Said) -> tuple[object, ...]:
    progress = said.progress
    shown: tuple[object, ...] = (None,) * 5
    if progress is not None:
        note = storable(progress.body.decode())
        shown = progress.number, progress.at, progress.attempt, as_millionths(progress), note
    return (
        *(said.id, said.last_number, said.log_lines, said.log_bytes, said.output_attempt, said.output_bytes),
        *shown,
    )


async def find_said(tx: Transaction, id: MessageId) -> Said | None:
    return (await _find_all(tx, [id])).get(id)


async def _find_all(tx: Transaction, ids: Sequence[MessageId]) -> dict[MessageId, Said]:
    return {said.id: said for said in map(_said, await tx.rows("read_reports", ids))}


def _said(row: Row) -> Said:
    id, last_number, log_lines, log_bytes, output_attempt, output_bytes, number, at, attempt, millionths, note = row
    progress = None
    if number is not None:
        progress = Word(
            kind=Kind.PROGRESS, at=at, attempt=attempt, body=note.encode(), fraction=millionths / 1_000_000,
            number=number,
        )  # fmt: skip
    return Said(
        id=id, last_number=last_number, log_lines=log_lines, log_bytes=log_bytes, output_attempt=output_attempt,
        output_bytes=output_bytes, progress=progress,
    )  # fmt: skip


async def list_lines(tx: Transaction, id: MessageId, after: int, limit: int) -> list[Word]:
    return [
        Word(number=number, kind=Kind(kind), at=at, attempt=attempt, level=level, is_text=is_text, body=body)
        for number, kind, at, attempt, level, is_text, body in await tx.rows("list_report_lines", id, after, limit)
    ]


async def add_notices(tx: Transaction, notices: Sequence[Notice]) -> None:
    await tx.row("lock_notices")
    await tx.run_many("put_notice", [(each.origin, each.at, each.name, each.body) for each in notices])
    await tx.run("drop_notices", NOTICES_MAX)


async def list_notices(tx: Transaction, after: int, limit: int) -> list[Notice]:
    return [
        Notice(number=number, origin=origin, at=at, name=name, body=body)
        for number, origin, at, name, body in await tx.rows("list_notices", after, limit)
    ]


async def last_notice(tx: Transaction) -> int:
    found = await tx.row("last_notice")
    return 0 if found is None else int(found[0])
