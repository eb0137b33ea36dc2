"""The words of the bench: a scenario has contestants, each measured once a round; verdicts compare their medians."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

Metrics = dict[str, float]
Measure = Callable[[Path], Metrics]


@dataclass(frozen=True)
class Options:
    """What the command line asked for, and where the files go."""

    rounds: int
    quick: bool
    directory: Path

    def scaled(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Contestant:
    """One thing to measure: a fresh process (or more) on a fresh file, in a directory of its own."""

    label: str
    peer: str
    settings: str
    measure: Measure


@dataclass
class Standing:
    """What one contestant did, round by round."""

    contestant: Contestant
    rounds: list[Metrics] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def samples(self, metric: str) -> list[float]:
        return [taken[metric] for taken in self.rounds if metric in taken]

    def median(self, metric: str) -> float | None:
        samples = self.samples(metric)
        return median(samples) if samples else None


@dataclass(frozen=True)
class Metric:
    """A column of the report: its name in `Metrics`, its heading, and how many decimals are worth printing."""

    name: str
    heading: str
    decimals: int = 0


@dataclass(frozen=True)
class Verdict:
    """One line of judgement: what was measured against the gate and, where there is one, the goal."""

    what: str
    value: float | None
    gate: float
    unit: str
    at_least: bool = True
    goal: float | None = None

    def passes(self, bar: float) -> bool | None:
        if self.value is None:
            return None
        return self.value >= bar if self.at_least else self.value <= bar

    def bar(self, bar: float | None) -> str:
        if bar is None:
            return "–"
        return f"{'>=' if self.at_least else '<='} {bar:g}{self.unit}"

    def measured(self) -> str:
        return "not compared" if self.value is None else f"{self.value:.2f}{self.unit}"


Judge = Callable[["Standings"], list[Verdict]]


@dataclass
class Scenario:
    """A table of the report; `rounds` where it differs from the command line's."""

    name: str
    title: str
    metrics: Sequence[Metric]
    contestants: Sequence[Contestant]
    judge: Judge
    rounds: int | None = None


class Standings:
    """All contestants of a scenario, asked by peer: the best setting of a peer is what counts."""

    def __init__(self, standings: Sequence[Standing]) -> None:
        self._standings = standings

    def best(self, label: str, metric: str, *, highest: bool = True) -> float | None:
        """The median of the contestant with this label; or the best one among the settings of this peer."""
        named = [standing for standing in self._standings if standing.contestant.label == label]
        asked = named or [standing for standing in self._standings if standing.contestant.peer == label]
        medians = [found for standing in asked if (found := standing.median(metric)) is not None]
        if not medians:
            return None
        return max(medians) if highest else min(medians)

    def ratio(self, label: str, other: str, metric: str, *, highest: bool = True) -> float | None:
        """How many times `other` `label` is."""
        ours = self.best(label, metric, highest=highest)
        theirs = self.best(other, metric, highest=highest)
        return ours / theirs if ours is not None and theirs else None
