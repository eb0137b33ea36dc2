"""TMDB: what is playing now, and one movie's details."""

import msgspec

from .errors import MovieGoneError
from .movie import Details, Movie
from .provider import Answer, Ask, Provider, Refusal

PAGE_SIZE = 20


class _Page(msgspec.Struct):
    results: list[Movie]
    total_pages: int


class _Genre(msgspec.Struct):
    name: str


class _Details(msgspec.Struct):
    id: int
    title: str
    overview: str | None = None
    tagline: str | None = None
    release_date: str | None = None
    runtime: int | None = None
    budget: int = 0
    revenue: int = 0
    vote_average: float = 0.0
    genres: list[_Genre] = []


class _Refusal(msgspec.Struct):
    status_code: int | None = None
    status_message: str = ""


class Tmdb:
    """The movie database, with a v4 token."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def now_playing(self, *, limit: int) -> list[Movie]:
        """Up to `limit` movies, each once, over as many pages as that takes: a list may shift between two of them."""
        movies: dict[int, Movie] = {}
        for number in range(1, -(-limit // PAGE_SIZE) + 1):
            page = await self._page(number)
            movies.update({movie.id: movie for movie in page.results if movie.id not in movies})
            if number >= page.total_pages:
                break
        return list(movies.values())[:limit]

    async def details(self, movie_id: int) -> Details:
        """One movie; `MovieGoneError` if TMDB no longer knows it."""
        answer = await self._get(f"/3/movie/{movie_id}", {"language": "en-US"})
        if answer.status == 404:
            refusal = self._provider.undress(answer, _read_refusal)
            raise MovieGoneError(self._provider.name, refusal.message, status=404, code=refusal.code)
        found = self._provider.read(answer, _Details, _read_refusal)
        return Details(
            id=found.id,
            title=found.title,
            overview=found.overview or "",
            tagline=found.tagline or "",
            release_date=found.release_date or "",
            runtime=found.runtime,
            budget=found.budget,
            revenue=found.revenue,
            vote_average=found.vote_average,
            genres=[genre.name for genre in found.genres],
        )

    async def _page(self, number: int) -> _Page:
        query = {"language": "en-US", "page": str(number), "region": "US"}
        return self._provider.read(await self._get("/3/movie/now_playing", query), _Page, _read_refusal)

    async def _get(self, path: str, query: dict[str, str]) -> Answer:
        headers = {"authorization": f"Bearer {self._provider.key}"}
        return await self._provider.ask(Ask(method="GET", path=path, headers=headers, query=query))


def _read_refusal(body: bytes) -> Refusal:
    refusal = msgspec.json.decode(body, type=_Refusal)
    return Refusal(code=str(refusal.status_code or ""), message=refusal.status_message)
