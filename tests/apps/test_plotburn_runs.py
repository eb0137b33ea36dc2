"""The ledger: runs end exactly once, with every movie counted, whatever is delivered twice or at once."""

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from conveyor_apps.plotburn import clock
from conveyor_apps.plotburn.movie import Movie, Outcome, Roast
from conveyor_apps.plotburn.roasts import ROAST_TTL_MS, Roasts
from conveyor_apps.plotburn.runs import Begin, Cause, RunResult, Runs, RunStarted, RunStatus
from conveyor_apps.tables import Database, read_statements

pytestmark = pytest.mark.anyio

NOON = 1_795_262_400_000
RUN = "cron-1795262400000"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


LEDGER = read_statements("conveyor_apps.plotburn", "ledger.sql")


class HandClock:
    """Time that stands until a test moves it."""

    def __init__(self) -> None:
        self.ms = NOON
        self.lock = threading.Lock()

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def time() -> HandClock:
    return HandClock()


@pytest.fixture
async def database(tmp_path: Path, time: HandClock) -> AsyncIterator[Database]:
    database = Database(tmp_path / "plotburn.db", LEDGER, time)
    await database.open()
    yield database
    await database.close()


def begin(run: str = RUN) -> Begin:
    return Begin(run=run, cause=Cause.SCHEDULED, tick_ms=NOON)


def movies(count: int) -> list[Movie]:
    return [Movie(id=number, title=f"Movie {number}") for number in range(1, count + 1)]


def roast(movie_id: int, text: str = "Ha.", *, at: int = NOON) -> Roast:
    return Roast(movie_id=movie_id, title=f"Movie {movie_id}", roast=text, created_at_ms=at)


async def result(runs: Runs, run: str = RUN) -> RunResult:
    view = await runs.view(run)
    assert isinstance(view, RunResult)
    return view


async def test_a_run_ends_with_its_last_movie_and_counts_every_outcome(database: Database, time: HandClock) -> None:
    runs = Runs(database)
    await runs.begin(begin())
    await runs.plan(RUN, movies(3))
    assert not await runs.end_movie(RUN, 1, Outcome.GENERATED)
    assert not await runs.end_movie(RUN, 2, Outcome.CACHED)
    time.ms += 8_500
    assert await runs.end_movie(RUN, 3, Outcome.FAILED)
    assert await result(runs) == RunResult(
        timestamp="2026-11-21T12:00:00.000Z",
        trigger=Cause.SCHEDULED,
        correlation_id=RUN,
        movies_fetched=3,
        roasts_processed=2,
        roasts_cached=1,
        roasts_generated=1,
        roasts_failed=1,
        failed_movie_ids=[3],
        duration_ms=8_500,
        status=RunStatus.PARTIAL,
    )


async def test_a_run_of_no_movies_ends_at_once_and_well(database: Database) -> None:
    runs = Runs(database)
    await runs.begin(begin())
    assert await runs.plan(RUN, []) == []
    assert (await result(runs)).status is RunStatus.SUCCESS


async def test_a_run_whose_movies_all_failed_has_failed(database: Database) -> None:
    runs = Runs(database)
    await runs.begin(begin())
    await runs.plan(RUN, movies(2))
    await runs.end_movie(RUN, 2, Outcome.FAILED)
    await runs.end_movie(RUN, 1, Outcome.FAILED)
    assert (await result(runs)).status is RunStatus.FAILED
    assert (await result(runs)).failed_movie_ids == [1, 2]


async def test_a_run_that_had_no_list_has_failed(database: Database) -> None:
    runs = Runs(database)
    await runs.begin(begin())
    await runs.crash(RUN)
    ended = await result(runs)
    assert (ended.status, ended.movies_fetched) == (RunStatus.FAILED, 0)


async def test_a_redelivered_movie_is_counted_once_and_its_first_outcome_stands(database: Database) -> None:
    runs = Runs(database)
    await runs.begin(begin())
    await runs.plan(RUN, movies(2))
    await runs.end_movie(RUN, 1, Outcome.GENERATED)
    assert not await runs.end_movie(RUN, 1, Outcome.CACHED)
    assert await runs.end_movie(RUN, 2, Outcome.CACHED)
    assert await runs.end_movie(RUN, 2, Outcome.FAILED), (
        "who comes again hears that the run has ended, and publishes again"
    )
    ended = await result(runs)
    assert (ended.roasts_generated, ended.roasts_cached, ended.roasts_failed) == (1, 1, 0)


async def test_a_success_replaces_a_failure_only_while_the_run_goes_on(database: Database) -> None:
    runs = Runs(database)
    await runs.begin(begin())
    await runs.plan(RUN, movies(2))
    await runs.end_movie(RUN, 1, Outcome.FAILED)
    await runs.end_movie(RUN, 1, Outcome.GENERATED)
    await runs.end_movie(RUN, 2, Outcome.FAILED)
    await runs.end_movie(RUN, 2, Outcome.GENERATED)
    assert (await result(runs)).failed_movie_ids == [2]


async def test_a_movie_of_an_unknown_run_changes_nothing(database: Database) -> None:
    assert not await Runs(database).end_movie("manual-trigger-1", 1, Outcome.CACHED)


async def test_planning_again_after_a_crash_keeps_the_first_list_and_hands_out_what_is_open(database: Database) -> None:
    runs = Runs(database)
    await runs.begin(begin())
    await runs.plan(RUN, movies(3))
    await runs.end_movie(RUN, 2, Outcome.CACHED)
    await runs.begin(begin())
    assert await runs.plan(RUN, movies(9)) == [(1, "Movie 1"), (3, "Movie 3")]


@pytest.mark.parametrize("attempt", range(10))
async def test_two_workers_ending_the_last_two_movies_at_once_end_the_run_once(
    tmp_path: Path, database: Database, time: HandClock, attempt: int
) -> None:
    other = Database(tmp_path / "plotburn.db", LEDGER, time)
    await other.open()
    await Runs(database).begin(begin())
    await Runs(database).plan(RUN, movies(2))
    said: list[bool] = []

    async def end(workers: Database, movie_id: int) -> None:
        said.append(await Runs(workers).end_movie(RUN, movie_id, Outcome.GENERATED))

    async with anyio.create_task_group() as group:
        group.start_soon(end, database, 1)
        group.start_soon(end, other, 2)
    assert sorted(said) == [False, True]
    assert (await result(Runs(other))).roasts_generated == 2
    await other.close()


async def test_many_workers_in_many_processes_lose_no_count(
    tmp_path: Path, database: Database, time: HandClock
) -> None:
    workers = [Database(tmp_path / "plotburn.db", LEDGER, time) for _ in range(4)]
    for worker in workers:
        await worker.open()
    await Runs(database).begin(begin())
    await Runs(database).plan(RUN, movies(40))

    async def work(worker: Database, ids: range) -> None:
        for movie_id in ids:
            await Roasts(worker).keep(roast(movie_id), run=RUN, outcome=Outcome.GENERATED)

    async with anyio.create_task_group() as group:
        for number, worker in enumerate(workers):
            group.start_soon(work, worker, range(1 + 10 * number, 21 + 10 * number if number < 3 else 41))
    assert (await result(Runs(database))).roasts_generated == 40
    for worker in workers:
        await worker.close()


async def test_the_status_counts_all_runs_and_shows_the_last_ones(database: Database, time: HandClock) -> None:
    runs = Runs(database)
    for number in range(12):
        time.ms += 1_000
        await runs.begin(begin(f"cron-{number}"))
        await runs.plan(f"cron-{number}", [])
    time.ms += 1_000
    await runs.begin(begin("manual-trigger-13"))
    status = await runs.status(limit=10)
    assert status.total_runs == 12
    assert [run.correlation_id for run in status.history] == [f"cron-{number}" for number in range(11, 1, -1)]
    assert isinstance(status.last_run, RunStarted)
    assert status.last_run.correlation_id == "manual-trigger-13"


async def test_a_run_that_died_before_it_was_sent_is_closed_by_a_later_one(database: Database, time: HandClock) -> None:
    runs = Runs(database)
    await runs.begin(begin("cron-1"))
    await runs.plan("cron-1", movies(1))
    await runs.begin(begin("cron-2"))
    assert isinstance(await runs.view("cron-1"), RunStarted), "it may still be on its way"
    time.ms += 3_600_000
    await runs.begin(begin("cron-3"))
    ended = await result(runs, "cron-1")
    assert (ended.status, ended.failed_movie_ids) == (RunStatus.FAILED, [1])


async def test_a_run_that_was_sent_may_take_its_day(database: Database, time: HandClock) -> None:
    runs = Runs(database)
    await runs.begin(begin("cron-1"))
    await runs.plan("cron-1", movies(1))
    await runs.mark_sent("cron-1")
    time.ms += 23 * 3_600_000
    await runs.begin(begin("cron-2"))
    assert isinstance(await runs.view("cron-1"), RunStarted)


async def test_a_roast_is_stored_once_and_the_first_text_stands(database: Database) -> None:
    roasts = Roasts(database)
    await roasts.keep(roast(1, "first"), run=None, outcome=Outcome.GENERATED)
    kept = await roasts.keep(roast(1, "second"), run=None, outcome=Outcome.GENERATED)
    assert kept.roast.roast == "first"
    found = await roasts.find(1)
    assert found is not None
    assert found.roast == "first"


async def test_a_roast_and_its_runs_count_come_in_one_transaction(database: Database) -> None:
    runs, roasts = Runs(database), Roasts(database)
    await runs.begin(begin())
    await runs.plan(RUN, movies(1))
    kept = await roasts.keep(roast(1), run=RUN, outcome=Outcome.GENERATED)
    assert kept.run_ended
    again = await roasts.keep(roast(1), run=RUN, outcome=Outcome.CACHED)
    assert again.run_ended
    assert (await result(runs)).roasts_generated == 1


async def test_a_roast_of_thirty_days_is_written_anew(database: Database, time: HandClock) -> None:
    roasts = Roasts(database)
    await roasts.keep(roast(1, "old"), run=None, outcome=Outcome.GENERATED)
    time.ms += ROAST_TTL_MS - 1
    assert await roasts.find(1) is not None
    time.ms += 1
    assert await roasts.find(1) is None
    kept = await roasts.keep(roast(1, "new", at=time.ms), run=None, outcome=Outcome.GENERATED)
    assert kept.roast.roast == "new"


async def test_clearing_retires_every_active_roast(database: Database) -> None:
    roasts = Roasts(database)
    for movie_id in (1, 2):
        await roasts.keep(roast(movie_id), run=None, outcome=Outcome.GENERATED)
    assert await roasts.retire_all() == 2
    assert await roasts.find(1) is None


async def test_work_that_fails_leaves_the_tables_as_they_were(database: Database) -> None:
    def break_down(tx: object) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await database.write(break_down)
    await Runs(database).begin(begin())
    assert isinstance(await Runs(database).view(RUN), RunStarted)


async def test_the_file_survives_power_loss_by_its_settings(database: Database) -> None:
    modes = await database.read(lambda tx: [tx._connection.pragma(name) for name in ("journal_mode", "synchronous")])
    assert modes == ["wal", 2]


def test_moments_are_printed_as_the_document_prints_them() -> None:
    assert clock.iso(NOON + 5) == "2026-11-21T12:00:00.005Z"
