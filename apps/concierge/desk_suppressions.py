"""HTTP for the addresses that nothing more is sent to."""

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from . import clock
from .answers import answer, number_in, read_json
from .entry import Address, address_of
from .inbox import read_cursor, write_cursor
from .people import Person
from .rights import Right
from .room import Room
from .words import Channel

PAGE = 50
PAGE_MAX = 200


class NewSuppression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /api/suppressions`."""

    channel: Channel
    recipient: str
    note: str = ""


class SuppressionDesk:
    """Answers calls about suppressions."""

    def __init__(self, room: Callable[[], Room]) -> None:
        self._room = room

    def addresses(self) -> list[Address]:
        """All of them. Who may write may place one, who may send may lift it."""
        return [
            Address("GET", "/api/suppressions", Right.READ, self.list),
            Address("POST", "/api/suppressions", Right.COMPOSE, self.add),
            Address("POST", "/api/suppressions/{suppression}/lift", Right.SEND, self.lift),
        ]

    async def list(self, request: Request, person: Person) -> Response:
        """A page of them, the newest first; of one `recipient`, if it is given. That they were read is recorded."""
        limit = number_in(request, "limit", PAGE, least=1, most=PAGE_MAX)
        at, id = read_cursor(request.query_params.get("cursor"))
        room = self._room()
        await room.trail.record(person.at(address_of(request)), "suppression.list", "suppressions")
        found = await room.suppressions.page(at, id, limit + 1, recipient=request.query_params.get("recipient"))
        last = found[limit - 1] if len(found) > limit else None
        following = None if last is None else write_cursor(clock.read_iso(last.placed_at), last.id)
        return answer({"items": found[:limit], "next": following})

    async def add(self, request: Request, person: Person) -> Response:
        """One more; 201."""
        new: NewSuppression = await read_json(request, NewSuppression)
        who = person.at(address_of(request))
        id = await self._room().suppressions.add(who, new.channel, new.recipient, new.note)
        return answer({"id": id}, status=201)

    async def lift(self, request: Request, person: Person) -> Response:
        """Messages go there again; 204."""
        await self._room().suppressions.lift(person.at(address_of(request)), request.path_params["suppression"])
        return Response(status_code=204)
