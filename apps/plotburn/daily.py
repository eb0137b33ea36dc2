"""A day's run: fetch the list, then one message per movie, or (the first version) one movie after another."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from . import clock
from .bulletin import Bulletin
from .caches import Caches, NowPlaying
from .crew import Crew
from .errors import ProviderError, RateLimitedError
from .journal import Journal
from .movie import Movie, MovieJob, Outcome
from .roaster import Roaster
from .runs import Begin, Runs
from .settings import CronMode, Settings

SendJobs = Callable[[Sequence[MovieJob]], Awaitable[None]]

LIST_ATTEMPTS: Final = 3
"""The list has no message of its own whose retries the queue could own."""
LIST_WAIT_S_MAX: Final = 30.0


class NowPlayingList:
    """What is in the cinemas: from the cache, or from TMDB."""

    def __init__(self, crew: Crew, caches: Caches, *, limit: int) -> None:
        self._crew = crew
        self._caches = caches
        self._limit = limit

    async def find(self) -> NowPlaying | None:
        """The cached list."""
        return await self._caches.get_now_playing()

    async def fetch(self) -> NowPlaying:
        """A fresh list, kept for 23 hours."""
        return await self._caches.put_now_playing(await self._crew.tmdb.now_playing(limit=self._limit))


class Kitchen:
    """Cooks one movie of one run, and writes the three lines about it."""

    def __init__(self, roaster: Roaster, journal: Journal, bulletin: Bulletin) -> None:
        self._roaster = roaster
        self._journal = journal
        self._bulletin = bulletin

    async def cook(self, job: MovieJob, *, place: str) -> None:
        """Serve the movie's roast; an error leaves one line and goes on to whoever asked."""
        run, prefix, watch = job.correlation_id, f"[{place}][{job.correlation_id}]", clock.Stopwatch()
        await self._journal.info(run, f"{prefix} Processing {job.title}...")
        try:
            served = await self._roaster.serve(job.movie_id, run=run)
        except Exception as error:
            await self._journal.error(run, f"{prefix} ✗ {job.title}: {error}")
            raise
        await self._journal.info(run, f"{prefix} ✓ {job.title} ({watch.elapsed_ms()}ms)")
        if served.run_ended:
            await self._bulletin.publish(run)


class Daily:
    """One run, from its list to its last message. Delivered twice, it goes on where it was."""

    def __init__(
        self,
        settings: Settings,
        listing: NowPlayingList,
        kitchen: Kitchen,
        runs: Runs,
        journal: Journal,
        bulletin: Bulletin,
    ) -> None:
        self._settings = settings
        self._listing = listing
        self._kitchen = kitchen
        self._runs = runs
        self._journal = journal
        self._bulletin = bulletin

    async def announce(self, begin: Begin) -> None:
        """Let the status say `in_progress`."""
        await self._runs.begin(begin)
        await self._bulletin.publish(begin.run)

    async def run(self, begin: Begin, send: SendJobs) -> None:
        """All of it; a list that cannot be had ends the run as failed."""
        await self.announce(begin)
        await self._journal.drop_old()
        try:
            listing = await self._list_movies(begin.run)
        except Exception as error:
            await self._give_up(begin.run, error)
            raise
        jobs = await self._plan(begin.run, listing.movies)
        if self._settings.cron_mode is CronMode.SEQUENTIAL:
            await self._cook_in_sequence(jobs)
        elif jobs:
            await send(jobs)
        await self._runs.mark_sent(begin.run)

    async def _list_movies(self, run: str) -> NowPlaying:
        """The list, cached or fresh; a provider that stumbles is asked three times."""
        for _ in range(LIST_ATTEMPTS - 1):
            try:
                return await self._listing.find() or await self._listing.fetch()
            except ProviderError as error:
                wait_s = error.after_s if isinstance(error, RateLimitedError) else self._settings.cron_delay_ms / 1000
                await self._journal.error(run, f"[Cron][{run}] ✗ the list of movies: {error}")
                await clock.pause(min(wait_s, LIST_WAIT_S_MAX))
        return await self._listing.find() or await self._listing.fetch()

    async def _plan(self, run: str, movies: Sequence[Movie]) -> list[MovieJob]:
        open_movies = await self._runs.plan(run, movies)
        await self._journal.info(run, f"[Cron][{run}] {len(movies)} movies, {len(open_movies)} to do")
        await self._bulletin.publish(run)
        return [MovieJob(movie_id=movie_id, title=title, correlation_id=run) for movie_id, title in open_movies]

    async def _cook_in_sequence(self, jobs: Sequence[MovieJob]) -> None:
        for number, job in enumerate(jobs):
            if number:
                await clock.pause(self._settings.cron_delay_ms / 1000)
            try:
                await self._kitchen.cook(job, place="Cron")
            except Exception:  # noqa: BLE001 the line is written; one movie does not stop the others
                if await self._runs.end_movie(job.correlation_id, job.movie_id, Outcome.FAILED):
                    await self._bulletin.publish(job.correlation_id)

    async def _give_up(self, run: str, error: Exception) -> None:
        await self._journal.error(run, f"[Cron][{run}] ✗ the list of movies: {error}")
        await self._runs.crash(run)
        await self._bulletin.publish(run)
