"""Schedules and their runs over another conveyor's own API. Its apps declare and fire them; here they are looked at,
paused and resumed."""

from __future__ import annotations

from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.errors import NotFoundError
from conveyor.remote.client import Client
from conveyor.remote.wire import Page, read_moment
from conveyor.store.records import Run, RunStatus, Schedule, ScheduleDraft

T = TypeVar("T")
PAGE_ROWS: Final = 100


class _Schedule(msgspec.Struct, frozen=True):
    """As the API shows one."""

    name: str
    app: str
    queue: str
    expression: str
    syntax: str
    timezone: str
    misfire: str
    overlap: str
    jitter_ms: int
    paused: bool
    version: int
    next_tick: str | None = None


class _Run(msgspec.Struct, frozen=True):
    """As the API shows one."""

    schedule: str
    tick: str
    trigger: str
    status: RunStatus
    correlation_id: str
    fired_at: str
    started_at: str | None = None
    finished_at: str | None = None
    error: str | None = None


class OwnSchedules:
    """The schedules of another conveyor. `ScheduleNotFoundError` for a name that it does not know."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list_all(self) -> list[Schedule]:
        found: list[Schedule] = []
        query = {"limit": str(PAGE_ROWS)}
        while True:
            page: Page[_Schedule]
            page, _ = await self._client.call_ours("GET", "/schedules", Page[_Schedule], query=query)
            found += [_read(each) for each in page.items]
            if page.next_cursor is None:
                return found
            query["cursor"] = page.next_cursor

    async def get(self, name: str) -> Schedule:
        return _read(await self._ask("GET", name, "", _Schedule))

    async def pause(self, name: str) -> None:
        await self._ask("POST", name, "/pause", _Schedule)

    async def resume(self, name: str) -> None:
        """From its next tick on, by the clock over there."""
        await self._ask("POST", name, "/resume", _Schedule)

    async def list_runs(self, name: str, limit: int, before_tick: int | None) -> list[Run]:
        """The newest `limit` of them; the API's pages have names of their own, so those from `before_tick` on are read
        again."""
        found: list[Run] = []
        query: dict[str, str] = {}
        while len(found) < limit:
            query["limit"] = str(min(PAGE_ROWS, limit - len(found)))
            page = await self._ask("GET", name, "/runs", Page[_Run], query)
            runs = [_read_run(each) for each in page.items]
            found += [each for each in runs if before_tick is None or each.tick < before_tick]
            if page.next_cursor is None:
                break
            query["cursor"] = page.next_cursor
        return found

    async def _ask(self, method: str, name: str, what: str, type: type[T], query: dict[str, str] | None = None) -> T:
        try:
            answer: T
            answer, _ = await self._client.call_ours(
                method, f"/schedules/{quote(name, safe='')}{what}", type, query=query
            )
        except NotFoundError as error:
            raise ScheduleNotFoundError(name) from error
        return answer


def _read(shown: _Schedule) -> Schedule:
    draft = ScheduleDraft(
        name=shown.name,
        app=shown.app,
        queue=shown.queue,
        expression=shown.expression,
        syntax=shown.syntax,
        timezone=shown.timezone,
        misfire=shown.misfire,
        overlap=shown.overlap,
        jitter_ms=shown.jitter_ms,
    )
    return Schedule(draft=draft, version=shown.version, next_tick=_moment(shown.next_tick), paused=shown.paused)


def _read_run(shown: _Run) -> Run:
    return Run(
        schedule=shown.schedule,
        tick=read_moment(shown.tick),
        trigger=shown.trigger,
        status=shown.status,
        correlation_id=shown.correlation_id,
        fired_at=read_moment(shown.fired_at),
        started_at=_moment(shown.started_at),
        finished_at=_moment(shown.finished_at),
        error=shown.error,
    )


def _moment(text: str | None) -> int | None:
    return None if text is None else read_moment(text)
