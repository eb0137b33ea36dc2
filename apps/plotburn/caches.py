"""The five KV namespaces, their keys and how long each value lives."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol, TypeVar

import msgspec

from . import clock
from .movie import Movie, Roast, Truth
from .roasts import ROAST_TTL_MS

T = TypeVar("T")

NOW_PLAYING_TTL: Final = timedelta(hours=23)
TTL_MS_MIN: Final = 60_000
PAGE_SIZE: Final = 1_000


class KeyName(Protocol):
    """One entry of a listing."""

    @property
    def name(self) -> str: ...


class KeyPage(Protocol):
    """One page of a listing."""

    @property
    def keys(self) -> Sequence[KeyName]: ...

    @property
    def cursor(self) -> str | None: ...

    @property
    def list_complete(self) -> bool: ...


class Namespace(Protocol):
    """What plotburn asks of a KV namespace; conveyor's own has more."""

    async def get_json(self, key: str, *, type: type[T]) -> T | None: ...

    async def put_json(self, key: str, value: object, *, ttl: timedelta | None = None) -> None: ...

    async def delete(self, key: str) -> bool: ...

    async def list(self, *, prefix: str = "", limit: int = PAGE_SIZE, cursor: str | None = None) -> KeyPage: ...


class OpenNamespace(Protocol):
    """Gives the namespace of a name: `app.kv`."""

    def __call__(self, name: str, /) -> Namespace: ...


class NowPlaying(msgspec.Struct, frozen=True, kw_only=True):
    """The list of movies, and when it was fetched."""

    movies: list[Movie]
    fetched_at: str


class Caches:
    """All of plotburn's keys; `version` is part of each, so that a new one leaves the old values behind."""

    def __init__(self, open_namespace: OpenNamespace, *, version: str, log_days: int) -> None:
        self._now_playing = open_namespace("NOW_PLAYING_KV")
        self._truth = open_namespace("TRUTH_KV")
        self._roast = open_namespace("ROAST_KV")
        self._cron = open_namespace("CRON_KV")
        self._log = open_namespace("LOG_KV")
        self._version = version
        self._log_ttl = timedelta(days=log_days)

    async def get_now_playing(self) -> NowPlaying | None:
        """The list, if it is younger than 23 hours."""
        return await self._now_playing.get_json(f"now-playing:{self._version}", type=NowPlaying)

    async def put_now_playing(self, movies: list[Movie]) -> NowPlaying:
        """Keep the list."""
        fresh = NowPlaying(movies=movies, fetched_at=clock.iso(clock.now_ms()))
        await self._now_playing.put_json(f"now-playing:{self._version}", fresh, ttl=NOW_PLAYING_TTL)
        return fresh

    async def clear_now_playing(self) -> int:
        """Forget the list; say how many keys that were."""
        return int(await self._now_playing.delete(f"now-playing:{self._version}"))

    async def get_truth(self, movie_id: int) -> Truth | None:
        """The research on a movie."""
        return await self._truth.get_json(f"truth:{self._version}:movie:{movie_id}", type=Truth)

    async def put_truth(self, truth: Truth) -> None:
        """Keep the research for ever."""
        await self._truth.put_json(f"truth:{self._version}:movie:{truth.movie.id}", truth)

    async def get_roast(self, movie_id: int) -> Roast | None:
        """The roast of a movie."""
        return await self._roast.get_json(self._roast_key(movie_id), type=Roast)

    async def put_roast(self, roast: Roast) -> None:
        """Keep a roast until it is 30 days old."""
        left_ms = min(ROAST_TTL_MS, roast.created_at_ms + ROAST_TTL_MS - clock.now_ms())
        if left_ms >= TTL_MS_MIN:
            await self._roast.put_json(self._roast_key(roast.movie_id), roast, ttl=timedelta(milliseconds=left_ms))

    async def clear_roasts(self) -> int:
        """Forget all roasts; say how many keys that were."""
        cleared, cursor = 0, None
        while True:
            page = await self._roast.list(prefix=f"roast:{self._version}:movie:", limit=PAGE_SIZE, cursor=cursor)
            for key in page.keys:
                cleared += await self._roast.delete(key.name)
            if page.list_complete:
                return cleared
            cursor = page.cursor

    async def put_cron(self, *, last_run: object, history: object) -> None:
        """Publish the last run and the history."""
        await self._cron.put_json(f"cron:last-run:{self._version}", last_run)
        await self._cron.put_json(f"cron:history:{self._version}", history)

    async def get_log(self, correlation_id: str) -> dict[str, object] | None:
        """A run's log, as it was published."""
        return await self._log.get_json(f"log:{self._version}:{correlation_id}", type=dict[str, object])

    async def put_log(self, correlation_id: str, log: object) -> None:
        """Publish a run's log for as long as logs are kept."""
        await self._log.put_json(f"log:{self._version}:{correlation_id}", log, ttl=self._log_ttl)

    def _roast_key(self, movie_id: int) -> str:
        return f"roast:{self._version}:movie:{movie_id}"
