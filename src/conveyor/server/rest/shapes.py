"""What the API's requests and answers have in common. Each room says its own beside its endpoints.

Requests forbid fields that they do not know; answers are explicit lists of fields. Durations are whole milliseconds in
fields that end in `_ms`, moments are RFC 3339 in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Generic, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

PAGE_MAX: Final = 1_000
PAGE_DEFAULT: Final = 100

Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
Milliseconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
Limit: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]
Cursor: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request says, in its body or in its query."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says."""


class Page(Told, Generic[T], frozen=True, kw_only=True):
    """Part of a list. `next_cursor` asks for the next part, with the same filters; null at the end."""

    items: list[T]
    next_cursor: str | None


class PageAsked(Asked, frozen=True, kw_only=True):
    """Which part of a list."""

    limit: Limit = PAGE_DEFAULT
    cursor: Cursor | None = None


def moment(value_ms: int) -> datetime:
    """A moment of the store's clock."""
    return datetime.fromtimestamp(value_ms / 1000, UTC)


def maybe_moment(value_ms: int | None) -> datetime | None:
    return None if value_ms is None else moment(value_ms)
