"""A generation as callers see it: its record, its place in the line, and how long things took."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from ..records import Generation, State
from ..room import Room

LINE_MAX: Final = 10_000
"""Whoever stands further back is told that it waits, and no number."""
LINE_AGE_S: Final = 0.5
WAITING: Final = (State.QUEUED, State.RETRYING)


class Timings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """In seconds; null for what is not over."""

    wait_seconds: float | None
    """From the request to the first start."""
    processing_seconds: float | None
    """From the first start to the end."""
    provider_seconds: float | None
    """From the moment the provider took it to the end."""


class GenerationView(Generation, frozen=True, kw_only=True, rename="camel"):
    """The record, and what follows from it and from the others."""

    queue_position: int | None
    """1 for the next; null for one that does not wait."""
    timings: Timings


class GenerationPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Part of a list, newest first."""

    generations: list[GenerationView]
    next_cursor: str | None
    """Asks for the next part; null at the end."""


class Views:
    """Makes them. The whole line is read once for all who watch."""

    def __init__(self, room: Callable[[], Room]) -> None:
        self._room = room
        self._places: Mapping[str, int] = {}
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    async def show(self, generation: Generation) -> GenerationView:
        """With its place as it is now."""
        place = await self._room().desk.position(generation.id) if generation.state in WAITING else None
        return _view(generation, place)

    async def glance(self, generation: Generation) -> GenerationView:
        """With its place of half a second ago at most: for those who look often, or at many."""
        if generation.state not in WAITING:
            return _view(generation, None)
        return _view(generation, (await self._line()).get(generation.id))

    async def _line(self) -> Mapping[str, int]:
        async with self._reading:
            now = asyncio.get_running_loop().time()
            if self._read_at is None or now - self._read_at >= LINE_AGE_S:
                ids = await self._room().ledger.line(LINE_MAX)
                self._places = {id: place for place, id in enumerate(ids, start=1)}
                self._read_at = now
            return self._places


def _view(generation: Generation, place: int | None) -> GenerationView:
    timings = Timings(
        wait_seconds=_between(generation.created_at, generation.started_at),
        processing_seconds=_between(generation.started_at, generation.ended_at),
        provider_seconds=_between(generation.submitted_at, generation.ended_at),
    )
    return GenerationView(**msgspec.structs.asdict(generation), queue_position=place, timings=timings)


def _between(first: str | None, second: str | None) -> float | None:
    if first is None or second is None:
        return None
    seconds = (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()
    return max(0.0, round(seconds, 3))
