"""Cutmv's own HTTP: uploads, orders, downloads, the document's two addresses for the queue, and the page."""

import contextlib
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from conveyor_apps.safe_headers import SafeHeaders

from .answers import answer, attachment, read_body, read_json, refuse_error
from .errors import RefusedError
from .orders import OrderView, Way, new_order_id
from .reports import Answer, Report
from .room import Room
from .signing import is_signed
from .socket import watch
from .uploads import UploadState
from .words import CONTENT_TYPES, Aspect, Clip, Format, Order, Quality, Wish, output_key, preview_key
from .zipping import zip_outputs

PAGE: Final = {
    "/": ("index.html", "text/html"),
    "/static/cutmv.css": ("cutmv.css", "text/css"),
    "/static/cutmv.js": ("cutmv.js", "text/javascript"),
    "/static/timeline.js": ("timeline.js", "text/javascript"),
    "/static/orders.js": ("orders.js", "text/javascript"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}
PART_TYPE: Final = "application/offset+octet-stream"
REPORT_BYTES_MAX: Final = 8 << 10
PICTURE_CACHE: Final = "private, max-age=3600"


class NewUpload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /api/uploads`."""

    name: str
    size: int


class NewOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /api/orders`."""

    upload: str
    clips: list[Clip]
    formats: list[Format]
    aspect: Aspect = Aspect.SOURCE
    quality: Quality = Quality.MEDIUM


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of what needs none: `{}`."""


class Desk:
    """Answers calls; `room` gives the open cutmv."""

    def __init__(self, room: Callable[[], Room]) -> None:
        self._room = room

    async def page(self, request: Request) -> Response:
        """The page and what it needs, from the package."""
        name, kind = PAGE[request.url.path]
        body = (files("conveyor_apps.cutmv") / "page" / name).read_bytes()
        return Response(body, media_type=kind, headers={"cache-control": "no-cache"})

    async def begin_upload(self, request: Request) -> Response:
        """Room for a file; 201 with its id."""
        new = await read_json(request, NewUpload)
        if new.size < 1:
            raise RefusedError("This file is empty.")
        return answer(await self._room().uploads.begin(new.name, new.size), status=201)

    async def upload(self, request: Request) -> Response:
        """How far it is, and what it holds once it is examined."""
        return answer(await self._room().uploads.find(request.path_params["upload"]))

    async def receive_part(self, request: Request) -> Response:
        """One more part, from `Upload-Offset` on. 409 says in words how much is here; `GET` says it in numbers."""
        if request.headers.get("content-type", "") != PART_TYPE:
            raise RefusedError(f"Send parts with `Content-Type: {PART_TYPE}`.", status=415)
        text = request.headers.get("upload-offset", "")
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise RefusedError("`Upload-Offset` must be the number of the part's first byte.")
        return answer(
            await self._room().uploads.receive(request.path_params["upload"], int(text), _until_gone(request))
        )

    async def preview(self, request: Request) -> Response:
        """One picture of the timeline."""
        found = await self._room().uploads.find(request.path_params["upload"])
        number = request.path_params["number"]
        if number >= found.previews:
            raise RefusedError("There is no such picture.", status=404)
        return await self._download(preview_key(found.id, number), "preview.jpg", "image/jpeg")

    async def order(self, request: Request) -> Response:
        """A new order, sent on its way; 201."""
        new, room = await read_json(request, NewOrder), self._room()
        upload = await room.uploads.find(new.upload)
        if upload.state is not UploadState.READY or upload.media is None:
            raise RefusedError(upload.error or "This upload is not complete yet.", status=409)
        wish = Wish(clips=new.clips, formats=new.formats, aspect=new.aspect, quality=new.quality)
        wish.check(upload.media)
        order = Order(id=new_order_id(), upload=upload.id, size=upload.size, media=upload.media, wish=wish)
        await room.orders.add(order)
        await room.dispatch.submit(order)
        return answer(await self._view(order.id), status=201)

    async def order_view(self, request: Request) -> Response:
        """One order as it stands."""
        return answer(await self._view(request.path_params["order"]))

    async def cancel(self, request: Request) -> Response:
        """Ends an order; FFmpeg is killed within a second or two. One that is over stays as it is."""
        await read_json(request, Nothing)
        await self._room().orders.cancel(request.path_params["order"])
        return answer(await self._view(request.path_params["order"]))

    async def retry(self, request: Request) -> Response:
        """Another try of one that failed or was cancelled; what it has made is kept."""
        await read_json(request, Nothing)
        view = await self._view(request.path_params["order"])
        await self._room().uploads.find(view.upload)  # without it there is nothing to try
        order = await self._room().orders.again(view.id)
        await self._room().dispatch.submit(order)
        return answer(await self._view(order.id))

    async def output(self, request: Request) -> Response:
        """One output, as an attachment."""
        view = await self._view(request.path_params["order"])
        for each in view.outputs:
            if each.name == request.path_params["name"] and each.size is not None:
                kind = CONTENT_TYPES[Format(each.format)]
                return await self._download(output_key(view.id, each.name), each.name, kind)
        raise RefusedError("There is no such output.", status=404)

    async def zip(self, request: Request) -> Response:
        """All outputs that are there, as one file."""
        view = await self._view(request.path_params["order"])
        names = [each.name for each in view.outputs if each.size is not None]
        if not names:
            raise RefusedError("This order has no outputs yet.", status=404)
        return attachment(zip_outputs(self._room().bucket, view.id, names), f"{view.id}.zip", "application/zip")

    async def queue_status(self, request: Request) -> Response:
        """The document's answer."""
        return answer(await self._room().gauges.status())

    async def queue_progress(self, request: Request) -> Response:
        """A worker's report, signed; the answer says whether it is to stop."""
        body = await read_body(request, most=REPORT_BYTES_MAX)
        if not is_signed(self._room().secret, request.headers, body):
            raise HTTPException(401, "Unauthorized")
        try:
            report = msgspec.json.decode(body, type=Report)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RefusedError("This is no report.") from error
        return answer(Answer(stop=await self._room().orders.take(report, way=Way.QUEUE)))

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(await self._room().gauges.text(), media_type="text/plain; version=0.0.4")

    async def _view(self, order: str) -> OrderView:
        view = await self._room().orders.view(order)
        if view is None:
            raise RefusedError("There is no such order.", status=404)
        return view

    async def _download(self, key: str, name: str, content_type: str) -> Response:
        bucket = self._room().bucket
        info = await bucket.head(key)
        if info is None:
            raise RefusedError("It is not kept any more.", status=404)
        response = attachment(bucket.chunks(key), name, content_type, info.size)
        if content_type.startswith("image/"):
            response.headers["cache-control"] = PICTURE_CACHE
        return response


async def _until_gone(request: Request) -> AsyncIterator[bytes]:
    """What comes of a body; a sender who leaves will come again, and go on where this ends."""
    with contextlib.suppress(ClientDisconnect):
        async for chunk in request.stream():
            yield chunk


def create_endpoints(room: Callable[[], Room]) -> Starlette:
    """All addresses, and how errors look."""
    desk = Desk(room)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await room().start_serving()
        try:
            yield
        finally:
            await room().stop_serving()

    return Starlette(
        routes=[
            *(Route(path, desk.page, methods=["GET"]) for path in PAGE),
            Route("/api/uploads", desk.begin_upload, methods=["POST"]),
            Route("/api/uploads/{upload}", desk.upload, methods=["GET"]),
            Route("/api/uploads/{upload}", desk.receive_part, methods=["PATCH"]),
            Route("/api/uploads/{upload}/previews/{number:int}.jpg", desk.preview, methods=["GET"]),
            Route("/api/orders", desk.order, methods=["POST"]),
            Route("/api/orders/{order}", desk.order_view, methods=["GET"]),
            Route("/api/orders/{order}/cancel", desk.cancel, methods=["POST"]),
            Route("/api/orders/{order}/retry", desk.retry, methods=["POST"]),
            Route("/api/orders/{order}/outputs/{name}", desk.output, methods=["GET"]),
            Route("/api/orders/{order}/zip", desk.zip, methods=["GET"]),
            Route("/api/queue-status", desk.queue_status, methods=["GET"]),
            Route("/api/queue-progress", desk.queue_progress, methods=["POST"]),
            Route("/api/metrics", desk.metrics, methods=["GET"]),
            WebSocketRoute("/ws", lambda socket: watch(socket, room())),
        ],
        middleware=[Middleware(SafeHeaders)],
        exception_handlers={HTTPException: refuse_error, RefusedError: refuse_error},
        lifespan=lifespan,
    )
