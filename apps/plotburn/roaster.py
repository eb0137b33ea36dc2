"""How a movie gets its roast: the table, the cache, or research and writing; stored once, even if delivered twice."""

from dataclasses import dataclass

from . import clock
from .caches import Caches
from .crew import Crew
from .movie import Outcome, Roast, Truth
from .roasts import Roasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A roast, where it came from, and whether its run has ended with it."""

    roast: Roast
    outcome: Outcome
    run_ended: bool


class Roaster:
    """Serves roasts, new or kept."""

    def __init__(self, crew: Crew, roasts: Roasts, caches: Caches) -> None:
        self._crew = crew
        self._roasts = roasts
        self._caches = caches

    async def serve(self, movie_id: int, *, run: str | None = None) -> Served:
        """The movie's roast; the run, if there is one, learns of it in the transaction that stores it."""
        found = await self.find(movie_id)
        if found is not None:
            return await self._keep(found, run=run, outcome=Outcome.CACHED)
        truth = await self._truth(movie_id)
        text = await self._crew.writer.write(truth)
        roast = Roast(movie_id=movie_id, title=truth.movie.title, roast=text, created_at_ms=clock.now_ms())
        return await self._keep(roast, run=run, outcome=Outcome.GENERATED)

    async def find(self, movie_id: int) -> Roast | None:
        """A roast that is there already: the table's word first, then the cache's."""
        return await self._roasts.find(movie_id) or await self._caches.get_roast(movie_id)

    async def _keep(self, roast: Roast, *, run: str | None, outcome: Outcome) -> Served:
        kept = await self._roasts.keep(roast, run=run, outcome=outcome)
        if outcome is Outcome.GENERATED or await self._caches.get_roast(roast.movie_id) is None:
            await self._caches.put_roast(kept.roast)
        return Served(roast=kept.roast, outcome=outcome, run_ended=kept.run_ended)

    async def _truth(self, movie_id: int) -> Truth:
        known = await self._caches.get_truth(movie_id)
        if known is not None:
            return known
        movie = await self._crew.tmdb.details(movie_id)
        findings = await self._crew.researcher.research(movie)
        researched_at = clock.iso(clock.now_ms())
        truth = Truth(movie=movie, findings=findings, provider=self._crew.research_name, researched_at=researched_at)
        await self._caches.put_truth(truth)
        return truth
