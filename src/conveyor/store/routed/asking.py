"""Asks stores in turn for what lies in one of them, and nobody knows in which."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from conveyor.model.errors import StoreError

P = TypeVar("P")
T = TypeVar("T")


async def first_of(parts: Iterable[P], question: Callable[[P], Awaitable[T]]) -> T | None:
    """The first answer that says anything. The error of a store that is away comes last, since it may lie there."""
    away: StoreError | None = None
    for part in parts:
        try:
            if answer := await question(part):
                return answer
        except StoreError as error:
            away = away or error
    if away is not None:
        raise away
    return None
