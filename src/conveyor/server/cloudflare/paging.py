"""Lists in numbered pages. Clients ask for the next page until one is empty, so a page past the end is empty, not the
last one again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from conveyor.server.endpoint import Call

T = TypeVar("T")

PER_PAGE_MAX: Final = 1_000
_PAGE_MAX: Final = 10**9


def read_page(call: Call, items: Sequence[T], *, per_page: int) -> tuple[list[T], dict[str, Any]]:
    """The page that the query asks for, and its `result_info`; `per_page` is what a page holds if it does not say."""
    size = call.query.number("per_page", per_page, least=1, most=PER_PAGE_MAX)
    page = call.query.number("page", 1, least=1, most=_PAGE_MAX)
    found = list(items[(page - 1) * size : page * size])
    info = {
        "page": page,
        "per_page": size,
        "count": len(found),
        "total_count": len(items),
        "total_pages": -(-len(items) // size),
    }
    return found, info
