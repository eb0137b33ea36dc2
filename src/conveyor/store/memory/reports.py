"""Reports of jobs and notices of processes, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from conveyor.model.ids import MessageId
from conveyor.model.job import JobRecord
from conveyor.model.report import Kind, Report, Word
from conveyor.store.memory.rows import Tables
from conveyor.store.notices import NOTICES_MAX, Notice
from conveyor.store.reports import Said, bell_of, take_in, trim


class Beat(Protocol):
    """`JobStore.beat`."""

    async def __call__(self, running: Sequence[JobRecord]) -> object: ...


class MemoryReports:
    """`ReportStore`."""

    def __init__(self, tables: Callable[[], Tables], beat: Beat, wake: Callable[[str], None]) -> None:
        self._tables = tables
        self._beat = beat
        self._wake = wake

    async def write(self, owner: int, reports: Sequence[Report]) -> list[MessageId]:
        lost = []
        for each in reports:
            message = self._tables().messages.get(each.seq)
            if message is None or (message.owner, message.claims) != (owner, each.claim):
                lost.append(each.record.id)
                continue
            if each.is_first:
                await self._beat([each.record])
            self._write(each)
            self._wake(bell_of(each.record.queue))
        return lost

    def _write(self, report: Report) -> None:
        tables, id = self._tables(), report.record.id
        said, lines, drops_output = take_in(tables.said.get(id, Said(id=id)), report.words)
        kept = [each for each in tables.report_lines.get(id, []) if not (drops_output and each.kind is Kind.OUTPUT)]
        kept += lines
        said, last = trim(said, [(each.number, len(each.body)) for each in kept if each.kind is Kind.LOG])
        tables.report_lines[id] = [each for each in kept if each.kind is Kind.OUTPUT or each.number > last]
        tables.said[id] = said

    async def find(self, id: MessageId) -> Said | None:
        return self._tables().said.get(id)

    async def read(self, id: MessageId, *, after: int, limit: int) -> list[Word]:
        return [each for each in self._tables().report_lines.get(id, []) if each.number > after][:limit]


class MemoryNotices:
    """`NoticeStore`."""

    def __init__(self, tables: Callable[[], Tables]) -> None:
        self._tables = tables

    async def add(self, notices: Sequence[Notice]) -> None:
        ring = self._tables().notices
        for each in notices:
            ring.append(replace(each, number=await self.last() + 1))
        del ring[:-NOTICES_MAX]

    async def read(self, *, after: int, limit: int) -> list[Notice]:
        return [each for each in self._tables().notices if each.number > after][:limit]

    async def last(self) -> int:
        ring = self._tables().notices
        return ring[-1].number if ring else 0
