"""Steps of several stores: each lies where its job does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from conveyor.model.ids import MessageId
from conveyor.model.step import JobEvent, StepRecord
from conveyor.store.routed.numbers import own
from conveyor.store.steps import Holder, Kept, StepStore, Told


class PartSteps:
    """`StepStore` of one part: its leases bear the part's numbers."""

    def __init__(self, inner: Callable[[], StepStore], unmark_owner: Callable[[int], int]) -> None:
        self._inner = inner
        self._unmark_owner = unmark_owner

    async def read(self, id: MessageId) -> Kept:
        return await self._inner().read(id)

    async def write(self, holder: Holder, step: StepRecord, *, is_first: bool) -> JobEvent | None:
        known = replace(holder, owner=self._unmark_owner(holder.owner), seq=own(holder.seq))
        return await self._inner().write(known, step, is_first=is_first)

    async def send(self, id: MessageId, name: str, payload: bytes) -> Told:
        return await self._inner().send(id, name, payload)


class RoutedSteps:
    """`StepStore` of them all: a job that is known by its id alone is looked for in each."""

    def __init__(self, parts: Sequence[StepStore], at: Callable[[str], StepStore]) -> None:
        self._parts = parts
        self._at = at

    async def read(self, id: MessageId) -> Kept:
        kept = Kept(steps=[], events=[])
        for part in self._parts:
            kept = await part.read(id)
            if kept.steps or kept.events:
                break
        return kept

    async def write(self, holder: Holder, step: StepRecord, *, is_first: bool) -> JobEvent | None:
        return await self._at(holder.queue).write(holder, step, is_first=is_first)

    async def send(self, id: MessageId, name: str, payload: bytes) -> Told:
        told = Told(job=None)
        for part in self._parts:
            told = await part.send(id, name, payload)
            if told.job is not None:
                break
        return told
