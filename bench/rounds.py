"""The rounds: A B C, A B C, A B C, so that a slow minute of the machine strikes everybody alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from bench.program import MeasureError
from bench.scenario import Contestant, Measured, Options, Scenario, Standing, Standings, Verdict

Announce = Callable[[str], None]


class Outcome:
    """A scenario with what came of it."""

    def __init__(self, scenario: Scenario, standings: Sequence[Standing], seconds: float) -> None:
        self.scenario = scenario
        self.standings = standings
        self.seconds = seconds

    @property
    def verdicts(self) -> list[Verdict]:
        return self.scenario.judge(Standings(self.standings))

    @property
    def failed(self) -> bool:
        return any(standing.failures for standing in self.standings)


def rounds_of(scenario: Scenario, options: Options) -> int:
    return scenario.rounds or options.rounds


def steps_of(scenario: Scenario, options: Options) -> int:
    return rounds_of(scenario, options) * len(scenario.contestants)


def play(scenario: Scenario, options: Options, announce: Announce) -> Outcome:
    """All rounds of one scenario; `announce` is told what is measured next."""
    started = monotonic()
    standings = [Standing(contestant) for contestant in scenario.contestants]
    rounds = rounds_of(scenario, options)
    for number in range(1, rounds + 1):
        for standing in standings:
            announce(f"{scenario.store}: {scenario.name} {number}/{rounds}: {standing.contestant.label}")
            _take(standing, options.directory)
    return Outcome(scenario, standings, monotonic() - started)


def _take(standing: Standing, directory: Path) -> None:
    try:
        standing.rounds.append(_measured(standing.contestant, directory))
    except MeasureError as error:
        standing.failures.append(str(error))
    except Exception as error:  # noqa: BLE001 whatever it was, half an hour of other figures is not thrown away
        standing.failures.append(f"{type(error).__name__}: {error}")


def _measured(contestant: Contestant, directory: Path) -> Measured:
    with TemporaryDirectory(dir=directory) as room:
        return contestant.measure(Path(room))
