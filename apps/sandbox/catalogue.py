"""The seeded cinema: which movies exist, which are playing on a day, and how a text names one of them.

Movies have an endless order of release; a day's list is a window on it, which slides by one to three movies a day.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from typing import Final

from .settings import DAYS_MAX
from .words import ADJECTIVES, GENRES, GOALS, HEROES, NOUNS, PATTERNS, PLACES, SUBTITLES, TAGLINES

ID_BASE: Final = 910_000
ID_STRIDE: Final = 7
PAGE_SIZE: Final = 20
NEW_RELEASES_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Movie:
    """One invented movie, with what TMDB knows about it."""

    id: int
    title: str
    overview: str
    tagline: str
    hero: str
    goal: str
    release_date: date
    genres: tuple[tuple[int, str], ...]
    runtime_min: int
    budget_usd: int
    revenue_usd: int
    popularity: float
    vote_average: float
    vote_count: int

    @property
    def slug(self) -> str:
        """The title as an address spells it."""
        return "-".join(self.title.lower().replace(":", "").split())


class Catalogue:
    """Invents movies from a seed; asks nothing of the clock, the day is always given."""

    def __init__(self, *, seed: int, movies: int, first_day: date) -> None:
        self._seed = seed
        self._count = movies
        self._first_day = first_day
        pairs = [(adjective, noun) for adjective in ADJECTIVES for noun in NOUNS]
        self._pairs = random.Random(f"{seed}:titles").sample(pairs, len(pairs))
        arrivals = (self._dice("day", day).randint(1, NEW_RELEASES_MAX) for day in range(1, DAYS_MAX + 1))
        self._entered_by_day = list(accumulate(arrivals, initial=0))
        self._movies: dict[int, Movie] = {}

    def now_playing(self, day: int) -> Sequence[Movie]:
        """List the day's movies, the newest first."""
        entered = self._entered(day)
        return [self._movie(index) for index in reversed(range(entered, entered + self._count))]

    def listing(self, day: int) -> Sequence[Movie]:
        """List the day as pages show it: page one's last comes again on page two, as when a list shifts."""
        movies = self.now_playing(day)
        return [*movies[:PAGE_SIZE], *movies[PAGE_SIZE - 1 :]] if len(movies) > PAGE_SIZE else movies

    def find(self, movie_id: int, *, day: int) -> Movie | None:
        """Look a movie up, also one that has left the list; one not yet released is unknown."""
        index = (movie_id - ID_BASE) // ID_STRIDE
        if not 0 <= index < self._entered(day) + self._count:
            return None
        movie = self._movie(index)
        return movie if movie.id == movie_id else None

    def named_in(self, text: str, *, day: int) -> Movie | None:
        """Find the movie whose title a text names first."""
        folded = text.casefold()
        known = (self._movie(index) for index in range(self._entered(day) + self._count))
        places = [(folded.find(movie.title.casefold()), movie) for movie in known]
        named = [place for place in places if place[0] >= 0]
        return min(named, key=lambda place: (place[0], place[1].id))[1] if named else None

    def _entered(self, day: int) -> int:
        return self._entered_by_day[min(day, DAYS_MAX)]

    def _released(self, index: int) -> date:
        """Say when a movie came out: the first day's list came over the weeks before, later ones on their day."""
        if index < self._count:
            return self._first_day - timedelta(days=(self._count - 1 - index) * 30 // self._count)
        return self._first_day + timedelta(days=bisect_right(self._entered_by_day, index - self._count))

    def _movie(self, index: int) -> Movie:
        if index not in self._movies:
            self._movies[index] = self._invent(index)
        return self._movies[index]

    def _invent(self, index: int) -> Movie:
        dice = self._dice("movie", index)
        adjective, noun = self._pairs[index]
        hero, goal = dice.choice(HEROES), dice.choice(GOALS)
        budget = dice.randint(4, 240) * 1_000_000
        return Movie(
            id=ID_BASE + index * ID_STRIDE + dice.randrange(ID_STRIDE),
            title=dice.choice(PATTERNS).format(a=adjective, n=noun, s=dice.choice(SUBTITLES)),
            overview=f"{hero[0].upper()}{hero[1:]} {goal} {dice.choice(PLACES)}.",
            tagline=dice.choice(TAGLINES),
            hero=hero,
            goal=goal,
            release_date=self._released(index),
            genres=tuple(dice.sample(GENRES, dice.randint(1, 3))),
            runtime_min=dice.randint(82, 178),
            budget_usd=budget,
            revenue_usd=int(budget * dice.uniform(0.2, 4.0)),
            popularity=round(dice.uniform(20, 400), 3),
            vote_average=round(dice.uniform(3.2, 8.6), 3),
            vote_count=dice.randint(12, 4_000),
        )

    def _dice(self, purpose: str, number: int) -> random.Random:
        return random.Random(f"{self._seed}:{purpose}:{number}")
