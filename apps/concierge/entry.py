"""Who comes in, and whether they may: sessions and tokens, pages of other sites, rates, rights. Every address but the
few that say so is behind it."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from .errors import RefusedError
from .people import Person
from .rights import RIGHTS, Right
from .room import Room
from .settings import DeskSettings

Handler = Callable[[Request, Person], Awaitable[Response]]
SAFE: Final = frozenset({"GET", "HEAD"})
OWN_SITES: Final = frozenset({"same-origin", "none"})
COOKIE_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Address:
    """One way in: what is called with which right. None is for whoever has come in at all."""

    method: str
    path: str
    right: Right | None
    handler: Handler
    changes: bool = False
    """A GET of the documents' that changes something: not with a cookie, which a page of another site could use."""


def cookie_name(settings: DeskSettings) -> str:
    """`__Host-` where browsers reach us by https."""
    return "__Host-concierge" if settings.public_url.startswith("https://") else "concierge"


def set_cookie(response: Response, settings: DeskSettings, secret: str) -> None:
    """Scripts cannot read it, other sites' pages do not send it."""
    response.set_cookie(
        cookie_name(settings), secret, path="/", secure=settings.public_url.startswith("https://"), httponly=True,
        samesite="strict", max_age=settings.session_hours * 3600,
    )  # fmt: skip


def drop_cookie(response: Response, settings: DeskSettings) -> None:
    """The browser forgets it."""
    response.delete_cookie(
        cookie_name(settings), path="/", secure=settings.public_url.startswith("https://"), httponly=True,
        samesite="strict",
    )  # fmt: skip


def address_of(request: Request) -> str:
    """Where the request came from."""
    return request.client.host if request.client is not None else ""


def check_site(request: Request) -> None:
    """`RefusedError` with 403 if a page of another site asks for a change."""
    if request.method in SAFE:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_own = site in OWN_SITES
    else:
        is_own = origin is not None and urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
    if not is_own:
        raise RefusedError(
            "A page of another site may not do this. Programs send a token, or `Origin` with the cookie.", status=403
        )


class Entry:
    """Lets people in, one request at a time."""

    def __init__(self, room: Callable[[], Room]) -> None:
        self._room = room

    def guard(self, address: Address) -> Callable[[Request], Awaitable[Response]]:
        """The handler behind the door."""

        async def handle(request: Request) -> Response:
            person = await self.admit(request)
            if address.changes and person.by_cookie and request.method in SAFE:
                raise RefusedError("This changes something: send it with POST.", status=405)
            if address.right is not None and address.right not in RIGHTS[person.role]:
                await self._room().trail.record(
                    person.at(address_of(request)), address.right, address.path, result="forbidden"
                )
                raise RefusedError(f"As {person.role} you may not do this.", status=403)
            return await address.handler(request, person)

        return handle

    async def admit(self, request: Request) -> Person:
        """Whoever it is. `RefusedError` with 401, 403 or 429."""
        room = self._room()
        person = await self._find(request, room)
        if person is None:
            wait_s = room.rates.take(f"from {address_of(request)}")
            if wait_s:
                raise too_many(wait_s)
            raise RefusedError("Sign in first, or send a token.", status=401)
        if person.by_cookie:
            check_site(request)
        wait_s = room.rates.take(person.name)
        if wait_s:
            raise too_many(wait_s)
        return person

    async def _find(self, request: Request, room: Room) -> Person | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:  # whoever shows a token is asked for nothing else
            return await room.people.find(token.strip(), by_cookie=False) if scheme.lower() == "bearer" else None
        secret = request.cookies.get(cookie_name(room.settings.desk), "")
        if not secret or len(secret) > COOKIE_CHARS_MAX:
            return None
        return await room.people.find(secret, by_cookie=True)


def too_many(wait_s: float) -> RefusedError:
    """429."""
    return RefusedError("Too many requests: wait a little.", status=429, after_s=max(1, math.ceil(wait_s)))
