"""Where the live part of each priority level begins, as far as this process knows.

A transaction held open elsewhere keeps the index entries of messages that are long gone, all of them at the head, where
every claim begins. So a claim begins where the last one ended. That is a hint, and mended in three ways: what is put
back lowers the mark to its place, and the bell tells the other processes; once in a while, and when it finds too
little, a claim begins at the very head; and where such a look has become dear, a scout looks beside the claims.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

import msgspec

from conveyor.model.clock import Clock, SystemClock

TRUST_S: Final = 1.0
CHEAP_S: Final = 0.05
"""A look at the very head that took no longer may be had by any claim; others are for scouts."""
SLACK_MS: Final = 250
"""Where looks are dear, a mark stays this far behind: a send may be committed after a later one was claimed."""
_REST: Final = 10
"""Scouts look a tenth of the time."""
_HEAD_SWEEPS: Final = 60
"""One in so many sweeps of dedupe keys begins at the very head."""

Level = tuple[int, int, int]
"""Lane, shelf, priority."""
Place = tuple[int, int]
"""Of a message within its level: ready_at, seq."""

HEAD: Final[Place] = (-1, -1)
_SPELLED: Final = re.compile(r"<(\d{1,19}) (\d) (\d) (-?\d{1,19}) (\d{1,19})")


def spell_put_back(level: Level, place: Place) -> str:
    """For the bell, among the names of queues, none of which begins like this."""
    return "<" + " ".join(map(str, (*level, *place)))


def split_put_back(words: Collection[str]) -> tuple[frozenset[str], list[tuple[Level, Place]]]:
    """The names of queues among what the bell says, and where messages were put back."""
    spelled = {each: _SPELLED.fullmatch(each) for each in words if each.startswith("<")}
    found = [[int(number) for number in each.groups()] for each in spelled.values() if each is not None]
    put_back = [((lane, shelf, priority), (ready_at, seq)) for lane, shelf, priority, ready_at, seq in found]
    return frozenset(words).difference(spelled), put_back


class _Mark(msgspec.Struct):
    place: Place
    looked_at: float
    """When somebody last began at the very head, and how long it took."""
    took: float
    is_scouted: bool = False

    @property
    def is_dear(self) -> bool:
        return self.took > CHEAP_S


class Marks:
    """Shared by all claims of a process."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()  # what a look costs is a matter of real time
        self._marks: dict[Level, _Mark] = {}
        self._changes = 0
        self.jobs_over = 0
        """Where the next sweep of finished jobs begins, in the order of their ends; 0 is the very head."""
        self.dedupe_over = 0
        """The same of dedupe keys whose message is gone."""
        self._dedupe_sweeps = 0

    @property
    def changes(self) -> int:
        """Grows whenever a mark is lowered; who read an older number has nothing to say."""
        return self._changes

    def begin_dedupe(self) -> int:
        """Where this sweep of dedupe keys begins."""
        self._dedupe_sweeps += 1
        return self.dedupe_over if self._dedupe_sweeps % _HEAD_SWEEPS else 0

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def start(self, level: Level) -> Place:
        """Where a claim begins."""
        mark = self._marks.get(level)
        if mark is None or (not mark.is_dear and self.monotonic() - mark.looked_at > TRUST_S):
            return HEAD
        return mark.place

    def is_worth_a_look(self, level: Level) -> bool:
        """Whether a claim that found too little behind the mark should look at the very head now."""
        mark = self._marks.get(level)
        return mark is None or not mark.is_dear

    def looked(self, level: Level, place: Place, began: float, changes: int) -> None:
        """A claim that began at the very head ended here."""
        if changes == self._changes:
            now = self.monotonic()
            self._marks[level] = _Mark(place, now, now - began)

    def moved(self, level: Level, place: Place, changes: int) -> None:
        """A claim that began at the mark ended here."""
        mark = self._marks.get(level)
        if mark is not None and changes == self._changes:
            mark.place = max(mark.place, (place[0] - SLACK_MS, -1) if mark.is_dear else place)

    def lower(self, level: Level, place: Place) -> None:
        """A message was put back here, perhaps before the mark."""
        mark = self._marks.get(level)
        if mark is not None and place <= mark.place:
            self._changes += 1
            mark.place = (place[0], place[1] - 1)

    def forget(self) -> None:
        """Many were put back, anywhere."""
        self._changes += 1
        self._marks.clear()

    def send_scout(self, lane: int) -> tuple[Level, Place] | None:
        """A level of the lane that is to be looked at beside the claims now, as far as its mark."""
        now = self.monotonic()
        for level, mark in self._marks.items():
            if level[0] != lane or not mark.is_dear or mark.is_scouted:
                continue
            if now - mark.looked_at > max(TRUST_S, _REST * mark.took):
                mark.is_scouted = True
                return level, mark.place
        return None

    def scouted(self, level: Level, earliest: Place | None, took: float | None) -> None:
        """A scout is back: with the first message before the mark, if there was one; or without an answer."""
        mark = self._marks.get(level)
        if mark is None:
            return
        mark.is_scouted = False
        mark.looked_at = self.monotonic()
        if took is not None:
            mark.took = took
        if earliest is not None:
            self.lower(level, earliest)
