"""What has ended goes when its policy says so, in memory."""

from __future__ import annotations

from conveyor.model.ids import MessageId
from conveyor.store.memory.floor import Floor
from conveyor.store.records import HISTORY_ROWS_MAX, SWEEP_ROWS_MAX, TRAIL_KIND, Document, RunStatus
from conveyor.store.retaining import (
    POLICIES,
    START,
    UNFINISHED_MS,
    Dated,
    History,
    Passed,
    PassedPage,
    Policies,
    passed_deliveries,
    passed_jobs,
    until_newer,
)


class Retention(Floor):
    """`RetentionStore`, and its part of the sweep."""

    @property
    def retention(self) -> _Looks:
        return _Looks(self)

    def _prune(self) -> dict[str, int]:
        policies = Policies(each for each in self._tables.documents.values() if each.kind == POLICIES)
        return {
            "jobs": self._prune_jobs(policies),
            "deliveries": self._prune_deliveries(policies),
            "runs": self._prune_runs(policies),
            "records": self._prune_trail(policies),
        }

    def _prune_jobs(self, policies: Policies) -> int:
        tables, jobs = self._tables, self._tables.jobs
        over: list[MessageId] = []
        for each in jobs.values():
            dated = Dated(
                id=each.id, queue=each.queue, state=each.state.value, ended_at=each.ended_at,
                result_until=each.result_until, expires_at=each.expires_at,
            )  # fmt: skip
            at = dated.ends_at(policies) if policies.says(History.JOBS) else None
            if (each.expires_at if at is None else at) <= self._now():
                over.append(each.id)
        for id in over[:SWEEP_ROWS_MAX]:
            del jobs[id]
            for kept in (tables.attempts, tables.steps, tables.events, tables.said, tables.report_lines):
                kept.pop(id, None)
        return len(over[:SWEEP_ROWS_MAX])

    def _prune_deliveries(self, policies: Policies) -> int:
        over = [
            id
            for id, each in self._tables.deliveries.items()
            if each.state != "pending"
            and (keep := policies.keep_ms(History.DELIVERIES, each.queue)) is not None
            and each.modified_at <= self._now() - keep
        ]
        for id in over[:HISTORY_ROWS_MAX]:
            del self._tables.deliveries[id]
        return len(over[:HISTORY_ROWS_MAX])

    def _prune_runs(self, policies: Policies) -> int:
        return sum(self._prune_runs_of(name, policies) for name in {name for name, _ in self._tables.runs})

    def _prune_runs_of(self, schedule: str, policies: Policies) -> int:
        keep = policies.keep_ms(History.RUNS, schedule)
        if keep is None:
            return 0
        before = self._now() - keep
        ticks = sorted(tick for name, tick in self._tables.runs if name == schedule)
        over = [tick for tick in ticks[:-1] if tick < before and self._is_past(schedule, tick, before - UNFINISHED_MS)]
        for tick in over[:HISTORY_ROWS_MAX]:
            del self._tables.runs[schedule, tick]
        return len(over[:HISTORY_ROWS_MAX])

    def _is_past(self, schedule: str, tick: int, long_before: int) -> bool:
        run = self._tables.runs[schedule, tick]
        return run.status not in (RunStatus.QUEUED, RunStatus.RUNNING) or tick < long_before

    def _prune_trail(self, policies: Policies) -> int:
        keep = policies.keep_ms(History.AUDIT)
        over = [] if keep is None else until_newer(self._records(), self._now() - keep)
        for each in over:
            del self._tables.documents[each.kind, each.name]
        if over:
            name, now = f"{History.AUDIT.value}.{START}", self._now()
            self._tables.documents[TRAIL_KIND, name] = Document(
                kind=TRAIL_KIND, name=name, body=over[-1].body, version=1, created_at=now, modified_at=now
            )
        return len(over)

    def _records(self) -> list[Document]:
        found = [each for each in self._tables.documents.values() if each.kind == History.AUDIT.value]
        return sorted(found, key=lambda each: each.name)

    def _passed(self, kind: History) -> PassedPage:
        tables = self._tables
        match kind:
            case History.JOBS:
                jobs = tables.jobs.values()
                return passed_jobs(
                    [(job.id, job.queue, job.state.value, job.ended_at, job.result_until) for job in jobs]
                )
            case History.DELIVERIES:
                return passed_deliveries(
                    [(each.id, each.queue, each.state, each.modified_at) for each in tables.deliveries.values()]
                )
            case History.RUNS:
                items = [Passed(scope=name, ended_at=tick) for name, tick in tables.runs]
            case History.AUDIT:
                items = [Passed(scope=None, ended_at=each.created_at) for each in self._records()]
        return PassedPage(items=items, next_after=None)


class _Looks:
    """`RetentionStore`; all in one page."""

    def __init__(self, store: Retention) -> None:
        self._store = store

    async def look(self, kind: History, *, after: bytes | None = None) -> PassedPage:
        page = self._store._passed(kind)  # noqa: SLF001  # the other half of this room
        return PassedPage(items=page.items, next_after=None)
