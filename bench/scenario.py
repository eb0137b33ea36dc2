"""The words of the bench: a scenario has contestants, each measured once a round; verdicts compare their medians."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Measured:
    """What one round of one contestant gave: numbers by the names of the scenario's metrics, and what is only drawn."""

    values: Mapping[str, float]
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)


Measure = Callable[[Path], Measured]


@dataclass(frozen=True)
class Options:
    """What the command line asked for, and where the files go."""

    rounds: int
    quick: bool
    held_seconds: int
    messages: int
    directory: Path

    def scaled(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Contestant:
    """One thing to measure: fresh processes on a fresh store, with a directory of their own."""

    label: str
    peer: str
    settings: str
    measure: Measure


@dataclass
class Standing:
    """What one contestant did, round by round."""

    contestant: Contestant
    rounds: list[Measured] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def samples(self, metric: str) -> list[float]:
        return [taken.values[metric] for taken in self.rounds if metric in taken.values]

    def median(self, metric: str) -> float | None:
        samples = self.samples(metric)
        return median(samples) if samples else None


@dataclass(frozen=True)
class Metric:
    """A column of the report: its name in `Measured`, its heading, and how many decimals are worth printing."""

    name: str
    heading: str
    decimals: int = 0


@dataclass(frozen=True)
class Ratio:
    """Of two medians; and the lowest and the highest of the rounds, each compared within itself."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        spread = f" ({self.low:.2f}–{self.high:.2f})" if self.low < self.high else ""
        return f"{self.value:.2f}x{spread}"


@dataclass(frozen=True)
class Verdict:
    """One line of judgement: what was measured against the gate and, where there is one, the goal."""

    what: str
    value: float | Ratio | None
    gate: float
    unit: str
    at_least: bool = True
    goal: float | None = None

    def passes(self, bar: float) -> bool | None:
        if self.value is None:
            return None
        value = self.value.value if isinstance(self.value, Ratio) else self.value
        return value >= bar if self.at_least else value <= bar

    def bar(self, bar: float | None) -> str:
        if bar is None:
            return "–"
        return f"{'>=' if self.at_least else '<='} {bar:g}{self.unit}"

    def measured(self) -> str:
        if self.value is None:
            return "not compared"
        return str(self.value) if isinstance(self.value, Ratio) else f"{self.value:.2f}{self.unit}"


Judge = Callable[["Standings"], list[Verdict]]


@dataclass
class Scenario:
    """A table of the report; `rounds` where it differs from the command line's."""

    name: str
    store: str
    title: str
    metrics: Sequence[Metric]
    contestants: Sequence[Contestant]
    judge: Judge
    rounds: int | None = None


class Standings:
    """All contestants of a scenario, asked by label or by peer: the best setting of a peer is what counts."""

    def __init__(self, standings: Sequence[Standing]) -> None:
        self._standings = standings

    def find(self, label: str, metric: str, *, highest: bool = True) -> Standing | None:
        """The contestant with this label; or the best among the settings of this peer."""
        named = [standing for standing in self._standings if standing.contestant.label == label]
        asked = named or [standing for standing in self._standings if standing.contestant.peer == label]
        medians = [(middle, standing) for standing in asked if (middle := standing.median(metric)) is not None]
        if not medians:
            return None
        return (max if highest else min)(medians, key=lambda pair: pair[0])[1]

    def best(self, label: str, metric: str, *, highest: bool = True) -> float | None:
        found = self.find(label, metric, highest=highest)
        return None if found is None else found.median(metric)

    def ratio(self, label: str, other: str, metric: str, *, highest: bool = True) -> Ratio | None:
        """How many times `other` `label` is."""
        found = [self.find(name, metric, highest=highest) for name in (label, other)]
        if found[0] is None or found[1] is None:
            return None
        ours, theirs = found[0].samples(metric), found[1].samples(metric)
        if not all(theirs):
            return None
        pairs = [mine / its for mine, its in zip(ours, theirs, strict=False)]
        return Ratio(median(ours) / median(theirs), min(pairs), max(pairs))

    def ratios(self, label: str, gates: Mapping[str, Bar], metric: str, *, highest: bool = True) -> list[Verdict]:
        """A verdict for each peer that has a gate."""
        return [
            Verdict(f"{bar.what} / {peer}", self.ratio(label, peer, metric, highest=highest), bar.gate, "x",
                    at_least=highest, goal=bar.goal)
            for peer, bar in gates.items()
        ]  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """What is asked of a ratio to one peer."""

    what: str
    gate: float
    goal: float | None = None
