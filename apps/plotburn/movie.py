"""The words of plotburn: a movie, the job it becomes, the truth about it, and its roast."""

from enum import StrEnum

import msgspec


class Movie(msgspec.Struct, frozen=True, kw_only=True):
    """A movie as lists show it."""

    id: int
    title: str
    overview: str = ""
    release_date: str = ""
    poster_path: str | None = None
    vote_average: float = 0.0


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What TMDB knows of one movie, as far as a roast needs it."""

    id: int
    title: str
    overview: str = ""
    tagline: str = ""
    release_date: str = ""
    runtime: int | None = None
    budget: int = 0
    revenue: int = 0
    vote_average: float = 0.0
    genres: list[str] = []


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing somebody wrote about a movie."""

    title: str
    text: str
    url: str = ""


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """The research on a movie: done once, kept for ever."""

    movie: Details
    findings: list[Finding]
    provider: str
    researched_at: str


class Roast(msgspec.Struct, frozen=True, kw_only=True):
    """A finished roast."""

    movie_id: int
    title: str
    roast: str
    created_at_ms: int


class MovieJob(msgspec.Struct, frozen=True, kw_only=True):
    """One message of `movie-processing-queue`."""

    movie_id: int
    title: str
    correlation_id: str


class Outcome(StrEnum):
    """How one movie of one run ended."""

    CACHED = "cached"
    GENERATED = "generated"
    FAILED = "failed"
