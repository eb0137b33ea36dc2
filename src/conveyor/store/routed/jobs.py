"""Jobs of several stores: each lies where its queue does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from conveyor.model.ids import MessageId
from conveyor.model.job import ErrorGroup, JobAttempt, JobRecord
from conveyor.model.message import Draft, Sent
from conveyor.store.jobs import JobFound, JobPage, JobsAsked, Obstacles
from conveyor.store.tracking import JobStore


class PartJobs:
    """`JobStore` of one part: its messages bear the part's numbers."""

    def __init__(self, inner: Callable[[], JobStore], mark: int) -> None:
        self._inner = inner
        self._mark = mark

    async def find(self, ids: Sequence[MessageId]) -> list[JobFound]:
        return [self._marked(each) for each in await self._inner().find(ids)]

    async def look(self, asked: JobsAsked) -> JobPage:
        page = await self._inner().look(asked)
        return replace(page, jobs=[self._marked(each) for each in page.jobs])

    async def attempts(self, id: MessageId, *, limit: int) -> Sequence[JobAttempt]:
        return await self._inner().attempts(id, limit=limit)

    async def errors(self, *, name: str | None, limit: int) -> Sequence[ErrorGroup]:
        return await self._inner().errors(name=name, limit=limit)

    async def beat(self, running: Sequence[JobRecord]) -> Sequence[MessageId]:
        return await self._inner().beat(running)

    async def cancel(self, id: MessageId) -> JobFound | None:
        found = await self._inner().cancel(id)
        return None if found is None else self._marked(found)

    async def replace(self, draft: Draft) -> Sent:
        return await self._inner().replace(draft)

    async def obstacles(self, id: MessageId) -> Obstacles:
        return await self._inner().obstacles(id)

    def _marked(self, found: JobFound) -> JobFound:
        message = found.message
        if message is None or not self._mark:
            return found
        return replace(found, message=replace(message, seq=message.seq | self._mark))


class RoutedJobs:
    """`JobStore` of them all: a job that is asked for by its id alone is looked for in each."""

    def __init__(self, parts: Mapping[str, JobStore], at: Callable[[str], JobStore]) -> None:
        self._parts = parts
        self._at = at

    async def find(self, ids: Sequence[MessageId]) -> list[JobFound]:
        return [found for part in self._parts.values() for found in await part.find(ids)]

    async def look(self, asked: JobsAsked) -> JobPage:
        pages = [await part.look(asked) for part in self._parts.values()]
        # what one store has beyond the end of another's page is left for the next look
        floor = max((page.next_before for page in pages if page.next_before is not None), default=None)
        found = [job for page in pages for job in page.jobs if floor is None or job.id >= floor]
        jobs = sorted(found, key=lambda job: job.id, reverse=True)
        if len(jobs) > asked.limit:
            return JobPage(jobs=jobs[: asked.limit], next_before=jobs[asked.limit - 1].id)
        return JobPage(jobs=jobs, next_before=floor)

    async def attempts(self, id: MessageId, *, limit: int) -> Sequence[JobAttempt]:
        part = await self._part_of(id)
        return [] if part is None else await part.attempts(id, limit=limit)

    async def errors(self, *, name: str | None, limit: int) -> Sequence[ErrorGroup]:
        found = [group for part in self._parts.values() for group in await part.errors(name=name, limit=limit)]
        return sorted(found, key=lambda group: (-group.jobs, group.fingerprint))[:limit]

    async def beat(self, running: Sequence[JobRecord]) -> Sequence[MessageId]:
        queues = {each.queue for each in running}
        shares = {queue: [each for each in running if each.queue == queue] for queue in queues}
        return [id for queue, share in shares.items() for id in await self._at(queue).beat(share)]

    async def cancel(self, id: MessageId) -> JobFound | None:
        part = await self._part_of(id)
        return None if part is None else await part.cancel(id)

    async def replace(self, draft: Draft) -> Sent:
        return await self._at(draft.queue).replace(draft)

    async def obstacles(self, id: MessageId) -> Obstacles:
        part = await self._part_of(id)
        return Obstacles() if part is None else await part.obstacles(id)

    async def _part_of(self, id: MessageId) -> JobStore | None:
        for part in self._parts.values():
            if await part.find([id]):
                return part
        return None
