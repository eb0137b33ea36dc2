"""Where the live part of each priority level begins, as far as this process knows.

A transaction held open elsewhere keeps the index entries of messages that are long gone, all of them at the head, where
every claim begins. So a claim begins where the last one ended. That is a hint, and mended in three ways: what is put
back lowers the mark to its place, and the bell tells the other processes; once in a while, and when it finds too
little, a claim begins at the very head; and where such a look has become dear, scouts look beside the claims, piece
by piece, from the mark back to the very head.
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
"""Where looks are dear, some claims begin this far before the mark: a send may be committed after a later one was
claimed."""
STEP_S: Final = 0.1
"""One claim in so long begins there, and each that found too little. It walks past all that was claimed since."""
_REST: Final = 30
"""Scouts look a thirtieth of the time."""
_SPAN_MS: Final = 1_000
"""The first piece that a scout looks at; the next ones are wider or narrower, so that each takes up to `CHEAP_S`."""
_HEAD_SWEEPS: Final = 60
"""One in so many sweeps of dedupe keys begins at the very head."""

Level = tuple[int, int, int]
"""Lane, shelf, priority."""
Place = tuple[int, int]
"""Of a message within its level: ready_at, seq."""
Range = tuple[Place, Place]
"""Behind the first place, as far as the second."""

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
    """When somebody last began at the very head, or a scout came back."""
    took: float
    """How long a look from the very head to the mark took, be it in pieces."""
    stepped_back_at: float = 0.0
    scouted: Range | None = None
    """Where a scout looks now."""
    left: Place | None = None
    """Scouts have not yet looked before this, on their way back."""
    left_took: float = 0.0
    """How long they have looked on this way."""
    rest: float = TRUST_S
    span_ms: int = _SPAN_MS

    @property
    def is_dear(self) -> bool:
        return self.took > CHEAP_S

    @property
    def behind(self) -> Place:
        return self.place[0] - SLACK_MS, -1

    def next_range(self) -> Range:
        until = self.behind if self.left is None else min(self.left, self.behind)
        return (until[0] - self.span_ms, -1) if until[0] > self.span_ms else HEAD, until

    def went(self, start: Place, took: float) -> None:
        """A scout found nothing from here on."""
        self.left_took += took
        self.rest = _REST * took
        if took < CHEAP_S / 10:
            self.span_ms *= 16
        elif took < CHEAP_S / 2:
            self.span_ms *= 2
        elif took > CHEAP_S:
            self.span_ms = max(1, self.span_ms // 2)
        self.left = start
        if start == HEAD:
            self.took = self.left_took
            self.turn_back()

    def turn_back(self) -> None:
        """The next scout begins at the mark."""
        self.left, self.left_took, self.rest, self.span_ms = None, 0.0, TRUST_S, _SPAN_MS


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
        mark, now = self._marks.get(level), self.monotonic()
        if mark is None or (not mark.is_dear and now - mark.looked_at > TRUST_S):
            return HEAD
        if not mark.is_dear or now - mark.stepped_back_at < STEP_S:
            return mark.place
        mark.stepped_back_at = now
        return mark.behind

    def start_again(self, level: Level, start: Place) -> Place | None:
        """Where a claim that began at `start` and found too little should begin now, if anywhere."""
        mark = self._marks.get(level)
        if start == HEAD:
            return None
        if mark is None or not mark.is_dear:
            return HEAD
        mark.stepped_back_at = self.monotonic()
        return mark.behind if start > mark.behind else None

    def looked(self, level: Level, place: Place, began: float, changes: int) -> None:
        """A claim that began at the very head ended here."""
        if changes == self._changes:
            now = self.monotonic()
            self._marks[level] = _Mark(place, now, now - began)

    def moved(self, level: Level, place: Place, changes: int) -> None:
        """A claim that began at the mark ended here."""
        mark = self._marks.get(level)
        if mark is not None and changes == self._changes:
            mark.place = max(mark.place, place)

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

    def send_scout(self, lane: int) -> tuple[Level, Range] | None:
        """A level of the lane that is to be looked at beside the claims now, and where."""
        now = self.monotonic()
        for level, mark in self._marks.items():
            if level[0] == lane and mark.is_dear and mark.scouted is None and now - mark.looked_at > mark.rest:
                mark.scouted = mark.next_range()
                return level, mark.scouted
        return None

    def scouted(self, level: Level, earliest: Place | None, took: float | None) -> None:
        """A scout is back: with the first message of its piece, if there was one; or without an answer."""
        mark = self._marks.get(level)
        if mark is None:
            return
        went, mark.scouted, mark.looked_at = mark.scouted, None, self.monotonic()
        if earliest is not None:
            self.lower(level, earliest)
            mark.turn_back()
        elif took is not None and went is not None:
            mark.went(went[0], took)
