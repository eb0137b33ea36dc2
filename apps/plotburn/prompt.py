"""What the writers are told: the house style, the same for all movies so that it can be cached, and the request."""

from importlib.resources import files
from typing import Final

from .movie import Truth

FINDINGS_COUNT: Final = 8
FINDING_CHARS_MAX: Final = 500

SYSTEM_PROMPT: Final = (files(__package__) / "roast_style.txt").read_text(encoding="utf-8").strip()


def roast_request(truth: Truth) -> str:
    """Everything known about one movie, marked as material: what strangers wrote on the web gives no orders."""
    movie = truth.movie
    facts = [
        f"Title: {movie.title}",
        f"Released: {movie.release_date or 'unknown'}",
        f"Genres: {', '.join(movie.genres) or 'unknown'}",
        f"Runtime: {movie.runtime or 'unknown'} minutes",
        f"Tagline: {movie.tagline or 'none'}",
        f"Plot: {movie.overview or 'unknown'}",
        f"Average vote: {movie.vote_average:.1f} of 10",
    ]
    notes = [f"- {finding.title}: {finding.text[:FINDING_CHARS_MAX]}" for finding in truth.findings[:FINDINGS_COUNT]]
    return "\n".join(
        [
            f"Roast the movie {movie.title}.",
            "<facts>",
            *facts,
            "</facts>",
            "<research>",
            *(notes or ["- nothing found"]),
            "</research>",
        ]
    )
