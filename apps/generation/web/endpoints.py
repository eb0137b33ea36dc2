"""All addresses: the document's API, what the page needs beside it, and the page."""

import contextlib
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from conveyor import Bucket, ConveyorError
from conveyor_apps.pace import Pace
from conveyor_apps.safe_headers import SafeHeaders

from ..errors import RefusedError
from ..records import GenerationRequest, State
from ..room import Room
from ..settings import Settings
from .answers import answer, check_site, read_json
from .films import serve_film
from .options import options_of
from .problems import NotFoundError, TooManyError, refuse
from .streams import EventStream, Follow, Streams, read_seen
from .views import GenerationPage, GenerationView, Views

PAGE: Final = {
    "/": ("index.html", "text/html"),
    "/static/generation.css": ("generation.css", "text/css"),
    "/static/generation.js": ("generation.js", "text/javascript"),
    "/static/card.js": ("card.js", "text/javascript"),
    "/static/live.js": ("live.js", "text/javascript"),
    "/static/api.js": ("api.js", "text/javascript"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}
LIST_USUAL: Final = 20
LIST_MAX: Final = 100
ID_CHARS_MAX: Final = 64


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of what needs none: `{}`."""


class Api:
    """Answers calls; `room` gives the open generation."""

    def __init__(self, settings: Settings, room: Callable[[], Room], bucket: Bucket, follow: Follow) -> None:
        self._settings = settings
        self._room = room
        self._bucket = bucket
        self._options = options_of(settings)
        self._views = Views(room)
        self._pace = Pace(settings.user_rate)
        self.streams = Streams(room, self._views, follow)

    async def create(self, request: Request) -> Response:
        """A new generation; 201. With an `Idempotency-Key` that this user sent before, the one that it made."""
        wish = await read_json(request, GenerationRequest)
        if wish.provider is not None and wish.provider not in [each.name for each in self._options.providers]:
            variables = " and ".join(f"`{each}`" for each in self._settings.missing_keys(wish.provider))
            raise RefusedError(f"`{wish.provider}` is not set up here.", status=422, hint=f"It needs {variables}.")
        if wait_s := self._pace.take(wish.user_id):
            text = f"You may ask for {self._settings.user_rate} videos a minute."
            raise TooManyError(text, wait_s=wait_s)
        made = await self._room().desk.create(wish, request.headers.get("idempotency-key"))
        return answer(await self._views.show(made), status=201, headers={"location": f"/api/generations/{made.id}"})

    async def get(self, request: Request) -> Response:
        """One as it stands."""
        return answer(await self._find(request))

    async def list(self, request: Request) -> Response:
        """The newest first, those of `userId` or all; `cursor` goes on."""
        asked = request.query_params
        state = asked.get("state")
        if state is not None and state not in list(State):
            hint = f"One of {', '.join(State)}."
            raise RefusedError("There is no such state.", status=422, hint=hint)
        limit = _read_limit(asked.get("limit"))
        found = await self._room().desk.list(
            user_id=asked.get("userId"), state=None if state is None else State(state), before=asked.get("cursor"),
            limit=limit + 1,
        )  # fmt: skip
        shown = [await self._views.glance(each) for each in found[:limit]]
        return answer(GenerationPage(generations=shown, next_cursor=shown[-1].id if len(found) > limit else None))

    async def cancel(self, request: Request) -> Response:
        """Ends it; what runs is told within a second or two. One that is cancelled already stays so."""
        await read_json(request, Nothing)
        await self._find(request)
        return answer(await self._views.show(await self._room().desk.cancel(request.path_params["id"])))

    async def events(self, request: Request) -> Response:
        """One generation live. 204 for who has seen its end, so that an `EventSource` does not come back."""
        check_site(request)
        view = await self._find(request)
        seen = read_seen(request.headers.get("last-event-id") or request.query_params.get("after"))
        if seen.is_all and view.state.is_final:
            return Response(status_code=204)
        self.streams.check_room(view.id)
        return EventStream(self.streams.watch(view.id, seen))

    async def video(self, request: Request) -> Response:
        """The video, in parts if need be."""
        view = await self._find(request)
        if view.result is None:
            raise NotFoundError("video", hint=f"This generation is {view.state}.")
        return await serve_film(request, self._bucket, view.result.key, f"{view.id}.mp4")

    async def queue_status(self, _request: Request) -> Response:
        """How the queue does."""
        return answer(await self._room().desk.status())

    async def options(self, _request: Request) -> Response:
        """What may be asked for."""
        return answer(self._options)

    async def _find(self, request: Request) -> GenerationView:
        id = request.path_params["id"]
        found = await self._room().desk.get(id) if len(id) <= ID_CHARS_MAX else None
        if found is None:
            raise NotFoundError("generation")
        return await self._views.show(found)


def _read_limit(text: str | None) -> int:
    if text is None:
        return LIST_USUAL
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= LIST_MAX):
        raise RefusedError(f"`limit` is a whole number from 1 to {LIST_MAX}.", status=422)
    return int(text)


async def show_page(request: Request) -> Response:
    """The page and what it needs, from the package."""
    name, kind = PAGE[request.url.path]
    body = (files("conveyor_apps.generation") / "page" / name).read_bytes()
    return Response(body, media_type=kind, headers={"cache-control": "no-cache"})


def create_endpoints(settings: Settings, room: Callable[[], Room], bucket: Bucket, follow: Follow) -> Starlette:
    """All addresses, and how errors look; `state.stop` lets all who watch go."""
    api = Api(settings, room, bucket, follow)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        api.streams.open()
        try:
            yield
        finally:
            await stop()

    async def stop() -> None:
        api.streams.close()

    endpoints = Starlette(
        routes=[
            *(Route(path, show_page, methods=["GET"]) for path in PAGE),
            Route("/api/generations", api.create, methods=["POST"]),
            Route("/api/generations", api.list, methods=["GET"]),
            Route("/api/generations/{id}", api.get, methods=["GET"]),
            Route("/api/generations/{id}/cancel", api.cancel, methods=["POST"]),
            Route("/api/generations/{id}/events", api.events, methods=["GET"]),
            Route("/api/generations/{id}/video", api.video, methods=["GET"]),
            Route("/api/queue/status", api.queue_status, methods=["GET"]),
            Route("/api/options", api.options, methods=["GET"]),
        ],
        middleware=[Middleware(SafeHeaders, policy={"media-src": "'self'"})],
        exception_handlers={HTTPException: refuse, RefusedError: refuse, ConveyorError: refuse},
        lifespan=lifespan,
    )
    endpoints.state.stop = stop
    return endpoints
