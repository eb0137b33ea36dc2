"""Stores that are asked in turn: an answer counts before the error of one that is away, and that before no answer."""

from __future__ import annotations

import pytest

from conveyor.model.errors import StoreError
from conveyor.store.routed.asking import first_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def answer_of(part: str | None) -> str | None:
    if part == "away":
        raise StoreError("nobody answers")
    return part


async def test_the_first_that_says_anything_is_the_answer() -> None:
    assert await first_of([None, "", "here", "there"], answer_of) == "here"
    assert await first_of(["away", "here"], answer_of) == "here"
    assert await first_of([None, None], answer_of) is None


async def test_what_may_lie_in_a_store_that_is_away_is_not_said_to_be_missing() -> None:
    for parts in ([None, "away"], ["away", None]):
        with pytest.raises(StoreError, match="nobody answers"):
            await first_of(parts, answer_of)
