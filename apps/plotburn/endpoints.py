"""Plotburn's own HTTP, with the documents' addresses and JSON."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import clock
from .errors import MovieGoneError, ProviderError, RateLimitedError
from .movie import Movie
from .room import Room
from .runs import Begin, Cause

Trigger = Callable[[str], Awaitable[bool]]
"""Starts a run; False if the previous one is not over and this one was skipped."""

LOGS_LIMIT: Final = 50
LOGS_LIMIT_MAX: Final = 500
MOVIE_ID_MAX: Final = 2**53


class NowPlayingView(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/now-playing`."""

    movies: list[Movie]
    count: int
    cached: bool
    fetched_at: str


class RoastView(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/movie/{id}`."""

    movie_id: int
    title: str
    roast: str
    cached: bool
    created_at: str


class Desk:
    """Answers calls; `room` gives the open plotburn, `trigger` starts the daily schedule now."""

    def __init__(self, room: Callable[[], Room], trigger: Trigger) -> None:
        self._room = room
        self._trigger = trigger
        self._last_ms = 0

    async def now_playing(self, request: Request) -> Response:
        """What is in the cinemas."""
        listing = self._room().listing
        cached = await listing.find()
        shown = cached or await listing.fetch()
        view = NowPlayingView(
            movies=shown.movies, count=len(shown.movies), cached=cached is not None, fetched_at=shown.fetched_at
        )
        return answer(view)

    async def movie(self, request: Request) -> Response:
        """One movie's roast; a missing one is written while the caller waits, never more than two at a time."""
        movie_id, room = request.path_params["movie_id"], self._room()
        if not 0 < movie_id < MOVIE_ID_MAX:
            return refuse(404, "Movie not found")
        roast = await room.roaster.find(movie_id)
        cached = roast is not None
        if roast is None:
            async with room.on_demand:
                roast = (await room.roaster.serve(movie_id)).roast
        created_at = clock.iso(roast.created_at_ms)
        return answer(
            RoastView(movie_id=movie_id, title=roast.title, roast=roast.roast, cached=cached, created_at=created_at)
        )

    async def trigger_cron(self, request: Request) -> Response:
        """Start a run in the background; while another one starts, the schedule would skip it (409)."""
        self._check_key(request)
        starting = await self._room().runs.starting()
        if starting is not None:
            return answer({"error": "A run is starting already", "correlation_id": starting}, status=409)
        self._last_ms = max(clock.now_ms(), self._last_ms + 1)
        run = f"manual-trigger-{self._last_ms}"
        if not await self._trigger(run):
            return answer({"error": "A run is starting already"}, status=409)
        await self._room().daily.announce(Begin(run=run, cause=Cause.MANUAL, tick_ms=self._last_ms))
        body = {
            "message": "Cron job started in background",
            "correlation_id": run,
            "status": "started",
            "check_status_at": "/cron/status",
        }
        return answer(body, status=202)

    async def cron_status(self, request: Request) -> Response:
        """How the runs stand."""
        return answer(await self._room().bulletin.status())

    async def logs(self, request: Request) -> Response:
        """The latest lines, newest first."""
        text = request.query_params.get("limit", str(LOGS_LIMIT))
        if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= LOGS_LIMIT_MAX):
            return refuse(400, f"limit must be a whole number from 1 to {LOGS_LIMIT_MAX}")
        lines = await self._room().journal.last_lines(limit=int(text))
        return answer({"logs": lines, "count": len(lines)})

    async def debug(self, request: Request) -> Response:
        """Everything about one run."""
        run = request.query_params.get("correlationId", "")
        if not run:
            return refuse(400, "correlationId is required")
        log = await self._room().bulletin.debug(run)
        return answer(log) if log is not None else refuse(404, f"no run has the correlation id {run[:100]}")

    async def clear_roasts(self, request: Request) -> Response:
        """Let every roast be written anew: the table's and the cache's."""
        self._check_key(request)
        retired = await self._room().roasts.retire_all()
        cleared = await self._room().caches.clear_roasts()
        return answer({"message": "Roast cache cleared", "keys_deleted": cleared, "roasts_retired": retired})

    async def clear_now_playing(self, request: Request) -> Response:
        """Let the list be fetched anew."""
        self._check_key(request)
        return answer(
            {"message": "Now-playing cache cleared", "keys_deleted": await self._room().caches.clear_now_playing()}
        )

    def _check_key(self, request: Request) -> None:
        given = request.headers.get("x-api-key", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._room().settings.api_secret.reveal().encode()):
            raise HTTPException(401, "Unauthorized")


def create_endpoints(room: Callable[[], Room], trigger: Trigger) -> Starlette:
    """All addresses, and how errors look."""
    desk = Desk(room, trigger)
    return Starlette(
        routes=[
            Route("/now-playing", desk.now_playing, methods=["GET"]),
            Route("/movie/{movie_id:int}", desk.movie, methods=["GET"]),
            Route("/cron/trigger", desk.trigger_cron, methods=["POST"]),
            Route("/cron/status", desk.cron_status, methods=["GET"]),
            Route("/logs", desk.logs, methods=["GET"]),
            Route("/debug", desk.debug, methods=["GET"]),
            Route("/cache/clear/roast", desk.clear_roasts, methods=["DELETE"]),
            Route("/cache/clear/now-playing", desk.clear_now_playing, methods=["DELETE"]),
        ],
        exception_handlers={HTTPException: _refuse_http, ProviderError: _refuse_provider},
    )


def answer(body: object, *, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


def refuse(status: int, error: str) -> Response:
    """A JSON refusal."""
    return answer({"error": error}, status=status)


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = refuse(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _refuse_provider(request: Request, error: Exception) -> Response:
    if isinstance(error, MovieGoneError):
        return refuse(404, "Movie not found")
    if isinstance(error, RateLimitedError):
        response = refuse(503, str(error))
        response.headers["retry-after"] = str(max(1, round(error.after_s)))
        return response
    return refuse(502, str(error))
