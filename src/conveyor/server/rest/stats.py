"""The whole at a glance: sums over queues, worker processes, and what the doctor finds."""

from __future__ import annotations

import asyncio
from typing import Final

from conveyor.doctor import Health, check_routes, examine, worst_of
from conveyor.model.errors import ConflictError
from conveyor.queue.admin import Queues
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import cut_page, read_cursor
from conveyor.server.rest.shapes import Moment, Page, PageAsked, Told, maybe_moment, moment
from conveyor.server.rights import Right
from conveyor.store.chosen import choose_stores
from conveyor.store.routing import Routing
from conveyor.store.urls import make_keeper


class Stats(Told, frozen=True, kw_only=True):
    """Sums over the queues that the token may read."""

    at: Moment
    queues: int
    paused_queues: int
    backlog_messages: int
    """Not final, dead letters included."""
    backlog_bytes: int
    leased: int
    dead_letters: int
    """In the queues to which consumers dead-letter."""
    oldest_ready_at: Moment | None
    workers: int | None
    """Worker processes; null for a token that is bound to queues."""


class Worker(Told, frozen=True, kw_only=True):
    """A worker process, whose messages live as long as it does."""

    owner: int
    app: str
    host: str
    pid: int
    lease_until: Moment


class FindingShown(Told, frozen=True, kw_only=True):
    """One check's verdict, and what to do."""

    check: str
    verdict: Health
    found: str
    hint: str


class StoreReport(Told, frozen=True, kw_only=True):
    """What is found in one store."""

    name: str
    verdict: Health
    findings: list[FindingShown]


class Report(Told, frozen=True, kw_only=True):
    """What the doctor finds; `verdict` is the worst."""

    verdict: Health
    stores: list[StoreReport]


async def get_stats(call: Call) -> Answer:
    """Sums over the queues that the token may read."""
    infos = [info for info in await Queues(call.store).list() if call.caller.may(Right.READ, info.name)]
    letterboxes = {info.consumer.dead_letter_queue for info in infos if info.consumer is not None}
    metrics = {info.name: await Queues(call.store).metrics(info.name) for info in infos}
    oldest = [each.oldest_ready_at for each in metrics.values() if each.oldest_ready_at is not None]
    stats = Stats(
        at=moment(call.store.clock.now_ms()),
        queues=len(infos),
        paused_queues=sum(info.paused for info in infos),
        backlog_messages=sum(each.backlog_messages for each in metrics.values()),
        backlog_bytes=sum(each.backlog_bytes for each in metrics.values()),
        leased=sum(each.leased for each in metrics.values()),
        dead_letters=sum(each.backlog_messages for name, each in metrics.items() if name in letterboxes),
        oldest_ready_at=maybe_moment(min(oldest, default=None)),
        workers=len(await call.store.list_owners()) if call.caller.may(Right.READ) else None,
    )
    return Answer.json(stats)


async def list_workers(call: Call) -> Answer:
    """Worker processes, by their numbers."""
    asked = read_query(call, PageAsked)
    after = read_cursor("workers", asked.cursor, int)
    rows = sorted(await call.store.list_owners(), key=lambda row: row.owner)
    found = [row for row in rows if after is None or row.owner > after]
    page = cut_page("workers", found, asked.limit, lambda row: row.owner)
    items = [
        Worker(
            owner=row.owner,
            app=row.info.app,
            host=row.info.host,
            pid=row.info.pid,
            lease_until=moment(row.lease_until),
        )
        for row in page.items
    ]
    return Answer.json(Page(items=items, next_cursor=page.next_cursor))


async def get_findings(call: Call) -> Answer:
    """Examine the store, or each of several; changes nothing."""
    routing = choose_stores() if call.app is None else call.app.routing
    if any(url.startswith("memory:") for url in routing.urls.values()):
        raise ConflictError("a store in memory has nothing to be examined", hint="use `sqlite:///conveyor.db`")
    reports = [await asyncio.to_thread(_examine, name, routing) for name in routing.urls]
    return Answer.json(Report(verdict=max((each.verdict for each in reports), key=list(Health).index), stores=reports))


def _examine(name: str, routing: Routing) -> StoreReport:
    facts = make_keeper(routing.urls[name]).examine(is_thorough=False)
    strays = check_routes(name, routing, facts) if routing.stores else None
    findings = [*examine(facts), *([] if strays is None else [strays])]
    shown = [
        FindingShown(check=each.check, verdict=each.verdict, found=each.found, hint=each.hint) for each in findings
    ]
    return StoreReport(name=name, verdict=worst_of(findings), findings=shown)


OPERATIONS: Final = (
    Operation(method="GET", path="/stats", right=Right.READ, handle=get_stats, gives=Stats),
    Operation(
        method="GET", path="/workers", right=Right.READ, scope="store", handle=list_workers, query=PageAsked,
        gives=Page[Worker],
    ),
    Operation(method="GET", path="/doctor", right=Right.ADMIN, scope="store", handle=get_findings, gives=Report),
)  # fmt: skip
