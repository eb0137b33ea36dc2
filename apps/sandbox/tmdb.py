"""TMDB as it speaks: the now-playing pages and a movie's details."""

from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from .catalogue import PAGE_SIZE, Movie
from .provider import (
    Ask,
    Endpoint,
    Problem,
    Reply,
    Trouble,
    World,
    bearer_key,
    json_refusal,
    json_reply,
    refuse,
)
from .settings import ProviderName

PAGE_MAX: Final = 500

INVALID_KEY: Final = (7, "Invalid API key: You must be granted a valid key.")
FAILURES: Final = {
    500: (11, "Internal error: Something went wrong, contact TMDB."),
    502: (43, "Couldn't connect to the backend server."),
    503: (9, "Service offline: This service is temporarily offline, try again later."),
    504: (24, "Your request to the backend server timed out. Try again."),
}
REFUSALS: Final = {
    Trouble.MISSING_KEY: (401, *INVALID_KEY),
    Trouble.WRONG_KEY: (401, *INVALID_KEY),
    Trouble.INVALID: (400, 22, "Invalid page: Pages start at 1 and max at 500. They are expected to be an integer."),
    Trouble.TOO_LARGE: (400, 5, "Invalid parameters: Your request parameters are incorrect."),
    Trouble.NOT_FOUND: (404, 34, "The resource you requested could not be found."),
    Trouble.RATE_LIMITED: (429, 25, "Your request count is over the allowed limit of 40."),
    Trouble.QUOTA_LIMITED: (429, 25, "Your request count is over the allowed limit of 40."),
}


class Tmdb:
    """The movie database."""

    name = ProviderName.TMDB

    def __init__(self, world: World) -> None:
        self._world = world

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Take the v4 token, or the v3 key from the address."""
        return bearer_key(headers) or query.get("api_key")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the addresses; the fixed one stands before the one with a number."""
        return (
            Endpoint(name="now_playing", method="GET", path="/3/movie/now_playing", answer=self._now_playing),
            Endpoint(name="movie", method="GET", path="/3/movie/{movie_id}", answer=self._movie),
        )

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no with TMDB's own status code."""
        if problem.trouble is Trouble.FAILED:
            status, (code, message) = problem.status, FAILURES.get(problem.status, (15, "Failed."))
        else:
            status, code, message = REFUSALS[problem.trouble]
        headers = {"Retry-After": str(problem.retry_after_s)} if status == 429 else {}
        return json_refusal(
            {"success": False, "status_code": code, "status_message": message}, status=status, headers=headers
        )

    def _now_playing(self, ask: Ask) -> Reply:
        page = _page_number(ask.query.get("page", "1"))
        clock = self._world.clock
        listing = self._world.catalogue.listing(clock.day)
        released = [movie.release_date.isoformat() for movie in listing]
        return json_reply(
            {
                "dates": {"maximum": max(released), "minimum": min(released)},
                "page": page,
                "results": [_summary(movie) for movie in listing[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]],
                "total_pages": -(-len(listing) // PAGE_SIZE),
                "total_results": len(listing),
            }
        )

    def _movie(self, ask: Ask) -> Reply:
        digits = ask.path["movie_id"].split("-")[0]
        movie_id = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else -1
        movie = self._world.catalogue.find(movie_id, day=self._world.clock.day)
        if movie is None or movie.id in ask.faults.gone_movie_ids:
            refuse(Trouble.NOT_FOUND)
        ask.refuse_if_failing(movie)
        return json_reply(_details(movie))


def _page_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= PAGE_MAX):
        refuse(Trouble.INVALID)
    return int(text)


def _common(movie: Movie) -> dict[str, object]:
    return {
        "adult": False,
        "backdrop_path": f"/{movie.slug}-wide.jpg",
        "id": movie.id,
        "original_language": "en",
        "original_title": movie.title,
        "overview": movie.overview,
        "popularity": movie.popularity,
        "poster_path": f"/{movie.slug}.jpg",
        "release_date": movie.release_date.isoformat(),
        "title": movie.title,
        "video": False,
        "vote_average": movie.vote_average,
        "vote_count": movie.vote_count,
    }


def _summary(movie: Movie) -> dict[str, object]:
    return {**_common(movie), "genre_ids": [number for number, _ in movie.genres]}


def _details(movie: Movie) -> dict[str, object]:
    return {
        **_common(movie),
        "belongs_to_collection": None,
        "budget": movie.budget_usd,
        "genres": [{"id": number, "name": name} for number, name in movie.genres],
        "homepage": f"https://{movie.slug}.example/",
        "imdb_id": f"tt9{movie.id}",
        "origin_country": ["US"],
        "production_companies": [],
        "production_countries": [{"iso_3166_1": "US", "name": "United States of America"}],
        "revenue": movie.revenue_usd,
        "runtime": movie.runtime_min,
        "spoken_languages": [{"english_name": "English", "iso_639_1": "en", "name": "English"}],
        "status": "Released",
        "tagline": movie.tagline,
    }
