"""Reports and notices of several stores: a report lies where its job does, notices at home."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from conveyor.model.ids import MessageId
from conveyor.model.report import Report, Word
from conveyor.store.reports import ReportStore, Said
from conveyor.store.routed.numbers import own


class PartReports:
    """`ReportStore` of one part: its leases bear the part's numbers."""

    def __init__(self, inner: Callable[[], ReportStore], own_owner: Callable[[int], int]) -> None:
        self._inner = inner
        self._own_owner = own_owner

    async def write(self, owner: int, reports: Sequence[Report]) -> Sequence[MessageId]:
        own_reports = [replace(each, seq=own(each.seq)) for each in reports]
        return await self._inner().write(self._own_owner(owner), own_reports)

    async def find(self, id: MessageId) -> Said | None:
        return await self._inner().find(id)

    async def read(self, id: MessageId, *, after: int, limit: int) -> Sequence[Word]:
        return await self._inner().read(id, after=after, limit=limit)


class RoutedReports:
    """`ReportStore` of them all: a job that is asked for by its id alone is looked for in each."""

    def __init__(self, parts: Mapping[str, ReportStore], at: Callable[[str], ReportStore]) -> None:
        self._parts = parts
        self._at = at

    async def write(self, owner: int, reports: Sequence[Report]) -> Sequence[MessageId]:
        lost: list[MessageId] = []
        for queue in {each.record.queue for each in reports}:
            share = [each for each in reports if each.record.queue == queue]
            lost += await self._at(queue).write(owner, share)
        return lost

    async def find(self, id: MessageId) -> Said | None:
        for part in self._parts.values():
            if (said := await part.find(id)) is not None:
                return said
        return None

    async def read(self, id: MessageId, *, after: int, limit: int) -> Sequence[Word]:
        for part in self._parts.values():
            if words := await part.read(id, after=after, limit=limit):
                return words
        return []
