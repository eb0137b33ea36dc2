"""The ledger of runs: its movies, how each ended, and its own end, always in its last movie's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from conveyor_apps.tables import Database, Row, Transaction

from . import clock
from .movie import Movie, Outcome

UNSENT_MS_MAX: Final = 20 * 60_000
"""Longer than any handler may run: what was not sent by then never will be."""
RUN_MS_MAX: Final = 24 * 3_600_000


class Cause(StrEnum):
    """Why a run began."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"


class RunStatus(StrEnum):
    """How a run stands."""

    IN_PROGRESS = "in_progress"
    SUCCESS = "success"
    PARTIAL = "partial"
    FAILED = "failed"


class RunStarted(msgspec.Struct, frozen=True, kw_only=True):
    """A run on its way, as the status document shows it."""

    timestamp: str
    trigger: Cause
    correlation_id: str
    status: RunStatus


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run, as the status document shows it."""

    timestamp: str
    trigger: Cause
    correlation_id: str
    movies_fetched: int
    roasts_processed: int
    roasts_cached: int
    roasts_generated: int
    roasts_failed: int
    failed_movie_ids: list[int]
    duration_ms: int
    status: RunStatus


RunView = RunStarted | RunResult


class CronStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status document: the last run, the finished ones (newest first), and how many there ever were."""

    last_run: RunView | None
    history: list[RunResult]
    total_runs: int


class MovieView(msgspec.Struct, frozen=True, kw_only=True):
    """One movie of one run; no outcome yet means that it is still on its way."""

    movie_id: int
    title: str
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """A run that should exist."""

    run: str
    cause: Cause
    tick_ms: int


class Runs:
    """All runs. Every method may be repeated after a crash."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, begin: Begin) -> None:
        """Note that a run has begun, and close those that died on their way."""
        await self._database.write(lambda tx: _begin(tx, begin))

    async def plan(self, run: str, movies: Sequence[Movie]) -> list[tuple[int, str]]:
        """Fix the run's movies, the first time; hand out those that have not ended."""
        return await self._database.write(lambda tx: _plan(tx, run, movies))

    async def mark_sent(self, run: str) -> None:
        """Note that every movie of the run is in the queue."""
        await self._database.write(lambda tx: tx.change("mark_sent", run=run))

    async def end_movie(self, run: str, movie_id: int, outcome: Outcome) -> bool:
        """Note how a movie ended; say whether its run has ended with it, or before."""
        return await self._database.write(lambda tx: end_movie(tx, run, movie_id, outcome))

    async def crash(self, run: str) -> None:
        """End a run that could not even begin its work."""
        await self._database.write(lambda tx: (tx.change("end_open_movies", run=run), tx.change("crash_run", run=run)))

    async def starting(self) -> str | None:
        """The run that is still queueing its movies (or, in sequential mode, cooking them), if there is one."""
        rows = await self._database.read(lambda tx: tx.rows("starting_run", unsent_before=tx.now_ms - UNSENT_MS_MAX))
        return rows[0][0] if rows else None

    async def status(self, *, limit: int) -> CronStatus:
        """The status document, all of one snapshot."""
        return await self._database.read(lambda tx: _status(tx, limit))

    async def view(self, run: str) -> RunView | None:
        """One run, if there is one of that name."""
        return await self._database.read(lambda tx: _view(tx, run))

    async def movies(self, run: str) -> list[MovieView]:
        """The run's movies, in the order of the list."""
        rows = await self._database.read(lambda tx: tx.rows("run_movies", run=run))
        return [MovieView(movie_id=row[0], title=row[1], outcome=Outcome(row[2]) if row[2] else None) for row in rows]


def end_movie(tx: Transaction, run: str, movie_id: int, outcome: Outcome) -> bool:
    """As `Runs.end_movie`, inside somebody's transaction."""
    tx.change("end_movie", run=run, movie_id=movie_id, outcome=outcome.value)
    return _finish(tx, run)


def _finish(tx: Transaction, run: str) -> bool:
    tx.change("finish_run", run=run)
    return isinstance(_view(tx, run), RunResult)


def _begin(tx: Transaction, begin: Begin) -> None:
    tx.change("begin_run", run=begin.run, cause=begin.cause.value, tick_at=begin.tick_ms)
    horizons = {"unsent_before": tx.now_ms - UNSENT_MS_MAX, "before": tx.now_ms - RUN_MS_MAX}
    for (lost,) in tx.rows("lost_runs", run=begin.run, **horizons):
        tx.change("end_open_movies", run=lost)
        tx.change("crash_run", run=lost)


def _plan(tx: Transaction, run: str, movies: Sequence[Movie]) -> list[tuple[int, str]]:
    if tx.change("plan_run", run=run, movies_fetched=len(movies)):
        for position, movie in enumerate(movies):
            tx.change("plan_movie", run=run, movie_id=movie.id, title=movie.title, position=position)
    _finish(tx, run)
    return [(row[0], row[1]) for row in tx.rows("open_movies", run=run)]


def _status(tx: Transaction, limit: int) -> CronStatus:
    last = [_view(tx, row[0]) for row in tx.rows("last_run")]
    finished = [_view(tx, row[0]) for row in tx.rows("finished_runs", limit=limit)]
    return CronStatus(
        last_run=last[0] if last else None,
        history=[run for run in finished if isinstance(run, RunResult)],
        total_runs=tx.rows("count_finished_runs")[0][0],
    )


def _view(tx: Transaction, run: str) -> RunView | None:
    rows = tx.rows("get_run", run=run)
    return _read_run(rows[0]) if rows else None


def _read_run(row: Row) -> RunView:
    run, cause, tick_at, started_at, fetched, finished_at, crashed, cached, generated, failed_json = row
    if finished_at is None:
        return RunStarted(
            timestamp=clock.iso(tick_at), trigger=Cause(cause), correlation_id=run, status=RunStatus.IN_PROGRESS
        )
    failed = msgspec.json.decode(failed_json, type=list[int])
    return RunResult(
        timestamp=clock.iso(tick_at),
        trigger=Cause(cause),
        correlation_id=run,
        movies_fetched=fetched,
        roasts_processed=cached + generated,
        roasts_cached=cached,
        roasts_generated=generated,
        roasts_failed=len(failed),
        failed_movie_ids=failed,
        duration_ms=max(0, finished_at - started_at),
        status=judge(succeeded=cached + generated, failed=len(failed), crashed=bool(crashed)),
    )


def judge(*, succeeded: int, failed: int, crashed: bool) -> RunStatus:
    """The word for a finished run; one without movies has nothing to regret."""
    if not succeeded and (failed or crashed):
        return RunStatus.FAILED
    return RunStatus.PARTIAL if failed or crashed else RunStatus.SUCCESS
