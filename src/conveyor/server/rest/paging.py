"""Keyset paging: a cursor is the place at which a page ended, so that a list may change meanwhile and no page is paid
for by those before it. Clients hand it back as it is."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from conveyor.model.refusals import InvalidRequestError
from conveyor.server.rest.shapes import Page

T = TypeVar("T")
Place = TypeVar("Place", int, str)


def write_cursor(of: str, place: int | str) -> str:
    """`of` names the list, so that no cursor is taken for another's."""
    return base64.urlsafe_b64encode(msgspec.json.encode((of, place))).decode().rstrip("=")


def read_cursor(of: str, cursor: str | None, kind: type[Place]) -> Place | None:
    """`InvalidRequestError` for anything but a cursor of this list."""
    if cursor is None:
        return None
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        name, place = msgspec.json.decode(packed, type=tuple[str, kind])  # type: ignore[valid-type]  # the caller says the type
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        raise _strange() from None
    if name != of or (isinstance(place, int) and not 0 <= place < 2**63):
        raise _strange()
    result: Place = place
    return result


def _strange() -> InvalidRequestError:
    hint = "leave `cursor` out to begin anew, or give `next_cursor` of the page before as it is"
    return InvalidRequestError("`cursor` is none of this list's", hint=hint, status=422)


def cut_page(of: str, found: Sequence[T], limit: int, place: Callable[[T], int | str]) -> Page[T]:
    """The first `limit` of what was found; whoever asks looks for one more than that."""
    items = list(found[:limit])
    return Page(items=items, next_cursor=write_cursor(of, place(items[-1])) if len(found) > limit else None)
