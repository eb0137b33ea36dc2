"""Concierge's own HTTP: every address with the right that it needs, and how errors look."""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route

from conveyor_apps.safe_headers import SafeHeaders

from .answers import refuse_error
from .desk_messages import MessageDesk
from .desk_page import page_routes
from .desk_people import PeopleDesk
from .desk_queue import QueueDesk
from .desk_records import RecordDesk
from .desk_suppressions import SuppressionDesk
from .entry import Address, Entry
from .errors import RefusedError
from .room import Room


def addresses_of(room: Callable[[], Room]) -> list[Address]:
    """All that are behind the door: tests walk through them, role by role."""
    desks = (MessageDesk(room), QueueDesk(room), RecordDesk(room), SuppressionDesk(room), PeopleDesk(room))
    return [address for desk in desks for address in desk.addresses()]


def create_endpoints(room: Callable[[], Room], receipts: Sequence[BaseRoute], *, https: bool) -> Starlette:
    """The application. Open to everybody are the page, the login, and `receipts`, which are signed."""
    entry = Entry(room)
    return Starlette(
        routes=[
            *page_routes(),
            Route("/api/login", PeopleDesk(room).log_in, methods=["POST"]),
            *receipts,
            *(Route(each.path, entry.guard(each), methods=[each.method]) for each in addresses_of(room)),
        ],
        middleware=[Middleware(SafeHeaders, policy={"img-src": "'self' data:", "form-action": "'self'"}, https=https)],
        exception_handlers={HTTPException: refuse_error, RefusedError: refuse_error},
    )
