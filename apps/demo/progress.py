"""One run as its log tells it: which lines are new, and the counts behind the picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Mark(StrEnum):
    """What a line is about."""

    START = "start"
    DONE = "done"
    LIMITED = "limited"
    FAILED = "failed"
    DEAD = "dead"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the run's log, without its prefix."""

    mark: Mark
    text: str


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run has come."""

    seconds: float = 0.0
    total: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    marks: dict[Mark, int] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    seen: int = 0

    @property
    def ended(self) -> int:
        """Movies that have an outcome."""
        return sum(self.outcomes.values())

    @property
    def is_over(self) -> bool:
        """Has the run a final status?"""
        return str(self.result.get("status", "in_progress")) != "in_progress"

    @property
    def per_second(self) -> float:
        """Movies ended per second so far."""
        return self.ended / self.seconds if self.seconds > 0.2 else 0.0

    def count(self, mark: Mark) -> int:
        """How many lines were about this."""
        return self.marks.get(mark, 0)

    def take(self, debug: Mapping[str, Any], calls: Mapping[str, int], *, seconds: float) -> Sequence[Event]:
        """Take in the run's log as it stands; give back what is new."""
        movies = [movie["outcome"] for movie in debug["movies"]]
        self.total = len(movies)
        self.outcomes = {outcome: movies.count(outcome) for outcome in ("generated", "cached", "failed")}
        self.calls, self.seconds, self.result = calls, seconds, debug["run"] or {}
        events = [read_event(line["message"]) for line in debug["logs"][self.seen :]]
        self.seen = len(debug["logs"])
        for event in events:
            self.marks[event.mark] = self.count(event.mark) + 1
        return events


def read_event(line: str) -> Event:
    """Tell lines apart by the words the documents give them."""
    text = line.split("] ", 1)[-1]
    if line.startswith("[Alert]"):
        return Event(mark=Mark.DEAD, text=text.removeprefix("✗ "))
    if text.startswith("✓ "):
        return Event(mark=Mark.DONE, text=text[2:])
    if text.startswith("✗ "):
        return Event(mark=Mark.LIMITED if " 429 " in text else Mark.FAILED, text=text[2:])
    return Event(mark=Mark.START if text.startswith("Processing ") else Mark.NOTE, text=text)
