"""The page of the staff: files of the package, open to everybody; what they show comes from behind the door."""

from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PAGE: Final = {
    "/": ("index.html", "text/html"),
    "/static/concierge.css": ("concierge.css", "text/css"),
    "/static/concierge.js": ("concierge.js", "text/javascript"),
    "/static/compose.js": ("compose.js", "text/javascript"),
    "/static/dom.js": ("dom.js", "text/javascript"),
    "/static/inbox.js": ("inbox.js", "text/javascript"),
    "/static/office.js": ("office.js", "text/javascript"),
    "/static/records.js": ("records.js", "text/javascript"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}


async def show_page(request: Request) -> Response:
    """The page and what it needs, from the package."""
    name, kind = PAGE[request.url.path]
    body = (files("conveyor_apps.concierge") / "page" / name).read_bytes()
    return Response(body, media_type=kind, headers={"cache-control": "no-cache"})


def page_routes() -> list[Route]:
    """All of them."""
    return [Route(path, show_page, methods=["GET"]) for path in PAGE]
