"""Reports and notices of a store that keeps none: behind Cloudflare's API nobody hears what a job says."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.model.ids import MessageId
from conveyor.model.report import Report, Word
from conveyor.store.notices import Notice
from conveyor.store.reports import Said


class NoReports:
    """`ReportStore`."""

    async def write(self, owner: int, reports: Sequence[Report]) -> list[MessageId]:
        return []

    async def find(self, id: MessageId) -> Said | None:
        return None

    async def read(self, id: MessageId, *, after: int, limit: int) -> list[Word]:
        return []


class NoNotices:
    """`NoticeStore`."""

    async def add(self, notices: Sequence[Notice]) -> None:
        return None

    async def read(self, *, after: int, limit: int) -> list[Notice]:
        return []

    async def last(self) -> int:
        return 0
