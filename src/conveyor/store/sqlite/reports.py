"""`ReportStore` and `NoticeStore` of one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conveyor.model.ids import MessageId
from conveyor.model.report import Kind, Report, Word
from conveyor.store.notices import NOTICES_MAX, Notice
from conveyor.store.reports import TRIM_ROWS, Said, as_millionths, bell_of, take_in, trim
from conveyor.store.sqlite.jobs import beat_jobs
from conveyor.store.sqlite.transaction import Transaction
from conveyor.store.sqlite.writer import Durability, Writer

_RELAXED = Durability.RELAXED


class SQLiteReports:
    """Hands each operation to the writer that is there now. What a report said is on disk when the verdict that
    follows it is."""

    def __init__(self, live: Callable[[], Writer]) -> None:
        self._live = live

    async def write(self, owner: int, reports: Sequence[Report]) -> list[MessageId]:
        return await self._live().submit(lambda tx: write_reports(tx, owner, reports), _RELAXED)

    async def find(self, id: MessageId) -> Said | None:
        return await self._live().submit(lambda tx: find_said(tx, id), _RELAXED)

    async def read(self, id: MessageId, *, after: int, limit: int) -> list[Word]:
        return await self._live().submit(lambda tx: list_lines(tx, id, after, limit), _RELAXED)


class SQLiteNotices:
    """The same for notices."""

    def __init__(self, live: Callable[[], Writer]) -> None:
        self._live = live

    async def add(self, notices: Sequence[Notice]) -> None:
        await self._live().submit(lambda tx: add_notices(tx, notices), _RELAXED)

    async def read(self, *, after: int, limit: int) -> list[Notice]:
        return await self._live().submit(lambda tx: list_notices(tx, after, limit), _RELAXED)

    async def last(self) -> int:
        return await self._live().submit(last_notice, _RELAXED)


def write_reports(tx: Transaction, owner: int, reports: Sequence[Report]) -> list[MessageId]:
    """Those whose leases are lost."""
    lost = []
    for each in reports:
        lease = tx.row("find_lease", each.seq)
        if lease is None or lease[:2] != (owner, each.claim):
            lost.append(each.record.id)
            continue
        if each.is_first:
            beat_jobs(tx, [each.record])
        _write(tx, each)
        tx.woken.add(bell_of(tx.catalog.called_now(tx, each.record.queue)))
    return lost


def _write(tx: Transaction, report: Report) -> None:
    id = report.record.id
    said, lines, drops_output = take_in(find_said(tx, id) or Said(id=id), report.words)
    if drops_output:
        tx.run("drop_output", id)
    if lines:
        tx.run_many(
            "put_report_line",
            [(id, w.number, w.kind.value, w.at, w.attempt, w.level, int(w.is_text), w.body) for w in lines],
        )
    while said.is_over:
        said, last = trim(said, [(row[0], row[1]) for row in tx.rows("oldest_log_lines", id, TRIM_ROWS)])
        tx.run("drop_log_lines", id, last)
    progress = said.progress
    shown = (None,) * 5 if progress is None else (
        progress.number, progress.at, progress.attempt, as_millionths(progress), progress.body.decode()
    )  # fmt: skip
    tx.run(
        "put_report",
        *(id, said.last_number, said.log_lines, said.log_bytes, said.output_attempt, said.output_bytes, *shown),
    )


def find_said(tx: Transaction, id: MessageId) -> Said | None:
    found = tx.row("read_report", id)
    if found is None:
        return None
    _id, last_number, log_lines, log_bytes, output_attempt, output_bytes, number, at, attempt, millionths, note = found
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


def list_lines(tx: Transaction, id: MessageId, after: int, limit: int) -> list[Word]:
    return [
        Word(number=number, kind=Kind(kind), at=at, attempt=attempt, level=level, is_text=bool(is_text), body=body)
        for number, kind, at, attempt, level, is_text, body in tx.rows("list_report_lines", id, after, limit)
    ]


def add_notices(tx: Transaction, notices: Sequence[Notice]) -> None:
    tx.run_many("put_notice", [(each.origin, each.at, each.name, each.body) for each in notices])
    tx.run("drop_notices", NOTICES_MAX)


def list_notices(tx: Transaction, after: int, limit: int) -> list[Notice]:
    return [
        Notice(number=number, origin=origin, at=at, name=name, body=body)
        for number, origin, at, name, body in tx.rows("list_notices", after, limit)
    ]


def last_notice(tx: Transaction) -> int:
    found = tx.row("last_notice")
    return 0 if found is None else int(found[0])
