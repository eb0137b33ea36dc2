"""Where the live part of each priority level begins, as far as this process knows.

A transaction held open elsewhere keeps the index entries of messages that are long gone, all of them at the head, where
every claim begins. So a claim begins where the last one ended. That is a hint: once in a while, and when it finds too
little, a claim begins at the very head, and what this process itself puts back takes the mark away.
"""

from __future__ import annotations

from typing import Final

import msgspec

from conveyor.model.clock import SystemClock

HEAD: Final = (-1, -1)
TRUST_S: Final = 1.0
CHEAP_S: Final = 0.02
"""A look at the very head that took no longer may be had at any time; others are at most a tenth of the time."""
_REST: Final = 10

Level = tuple[int, int, int]
"""Lane, shelf, priority."""
Place = tuple[int, int]
"""When it was ready, seq."""


class _Mark(msgspec.Struct):
    place: Place
    looked_at: float
    """When a claim last began at the very head, and how long it took."""
    took: float


class Marks:
    """Shared by all claims of a process."""

    def __init__(self) -> None:
        self._clock = SystemClock()  # what a look costs is a matter of real time
        self._marks: dict[Level, _Mark] = {}
        self._changes = 0

    @property
    def changes(self) -> int:
        """Grows whenever a mark is taken away; who read an older number has nothing to say."""
        return self._changes

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def start(self, level: Level) -> Place:
        """Where a claim may begin."""
        mark = self._marks.get(level)
        if mark is None or self.monotonic() - mark.looked_at > max(TRUST_S, _REST * mark.took):
            return HEAD
        return mark.place

    def is_worth_a_look(self, level: Level) -> bool:
        """Whether a claim that found too little behind the mark should look at the very head now."""
        mark = self._marks.get(level)
        return mark is None or mark.took <= CHEAP_S or self.monotonic() - mark.looked_at > _REST * mark.took

    def looked(self, level: Level, place: Place | None, began: float, changes: int) -> None:
        """A claim that began at the very head ended here; None: it found nothing, so the mark may stay."""
        if changes == self._changes:
            now = self.monotonic()
            former = self._marks.get(level)
            place = place or (HEAD if former is None else former.place)
            self._marks[level] = _Mark(place, now, now - began)

    def moved(self, level: Level, place: Place, changes: int) -> None:
        """A claim that began at the mark ended here."""
        mark = self._marks.get(level)
        if mark is not None and changes == self._changes:
            mark.place = max(mark.place, place)

    def forget(self) -> None:
        """Something was put back, perhaps before a mark."""
        self._changes += 1
        for mark in self._marks.values():
            mark.place = HEAD
