"""Jobs of a store that keeps none: a queue behind Cloudflare's API has messages, and no word for what became of
them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from conveyor.model.errors import StoreUnsupportedError
from conveyor.model.ids import MessageId
from conveyor.model.job import ErrorGroup, JobAttempt, JobRecord
from conveyor.model.message import Draft
from conveyor.store.jobs import JobFound, JobPage, JobsAsked, Obstacles
from conveyor.store.retaining import History, PassedPage


class NoJobs:
    """`JobStore`."""

    async def find(self, ids: Sequence[MessageId]) -> list[JobFound]:
        return []

    async def look(self, asked: JobsAsked) -> JobPage:
        return JobPage(jobs=[], next_before=None)

    async def attempts(self, id: MessageId, *, limit: int) -> list[JobAttempt]:
        return []

    async def errors(self, *, name: str | None, limit: int) -> list[ErrorGroup]:
        return []

    async def beat(self, running: Sequence[JobRecord]) -> list[MessageId]:
        return []

    async def cancel(self, id: MessageId) -> JobFound | None:
        return None

    async def replace(self, draft: Draft) -> NoReturn:
        raise StoreUnsupportedError(f"the queue `{draft.queue}` lives behind Cloudflare's API, which keeps no jobs")

    async def obstacles(self, id: MessageId) -> Obstacles:
        return Obstacles()


class NoHistory:
    """`RetentionStore`."""

    async def look(self, kind: History, *, after: bytes | None = None) -> PassedPage:
        return PassedPage(items=[], next_after=None)
