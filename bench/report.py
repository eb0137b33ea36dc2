"""The report: a table for each scenario, one for the judgement, one for the conditions; the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.field import Field
from bench.rounds import Outcome
from bench.scenario import Metric, Standing, Standings, Verdict

WIDTH = 150


def open_console() -> Console:
    """As wide as the terminal, and wide enough for the tables where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def print_report(
    console: Console, outcomes: Sequence[Outcome], facts: Mapping[str, str], absent: Mapping[str, str]
) -> None:
    for outcome in outcomes:
        if outcome.standings:
            console.print(_scenario_table(outcome))
        for standing in outcome.standings:
            for failure in standing.failures:
                console.print(f"  failed: {standing.contestant.label}: {failure}", style="red", markup=False)
    console.print(_judgement_table(outcomes))
    console.print(_conditions_table(facts))
    for name, reason in absent.items():
        console.print(f"{name}: not compared ({reason})", style="yellow", markup=False)


def _table(title: str, *, show_header: bool = True) -> Table:
    return Table(title=f"\n{title}", title_justify="left", title_style="bold", show_header=show_header)


def _scenario_table(outcome: Outcome) -> Table:
    scenario = outcome.scenario
    table = _table(f"{scenario.name} on {scenario.store}: {scenario.title} ({outcome.seconds:.0f} s)")
    table.add_column("who", no_wrap=True)
    for metric in scenario.metrics:
        table.add_column(metric.heading, justify="right", no_wrap=True)
    table.add_column("conveyor / it", justify="right")
    table.add_column("settings")
    for standing in outcome.standings:
        cells = [_cell(standing, metric) for metric in scenario.metrics]
        table.add_row(standing.contestant.label, *cells, _ratio(outcome, standing), standing.contestant.settings)
    return table


def _cell(standing: Standing, metric: Metric) -> str:
    """The median, with the lowest and the highest of the rounds."""
    middle = standing.median(metric.name)
    if middle is None:
        return "–"
    samples, digits = standing.samples(metric.name), metric.decimals
    spread = f" ({min(samples):,.{digits}f}–{max(samples):,.{digits}f})" if len(samples) > 1 else ""
    return f"{middle:,.{digits}f}{spread}"


def _ratio(outcome: Outcome, standing: Standing) -> str:
    if standing.contestant.peer == "conveyor":
        return ""
    metric = outcome.scenario.metrics[0].name
    ratio = Standings(outcome.standings).ratio("conveyor", standing.contestant.label, metric)
    return "–" if ratio is None else str(ratio)


def _judgement_table(outcomes: Sequence[Outcome]) -> Table:
    table = _table("Judgement (ratios of medians; in brackets the lowest and the highest of the rounds)")
    for heading in ("store", "what", "measured", "gate", "", "goal", ""):
        table.add_column(heading, justify="left" if heading in {"store", "what"} else "right", no_wrap=True)
    for outcome in outcomes:
        for verdict in outcome.verdicts:
            table.add_row(outcome.scenario.store, *_judgement(verdict))
    return table


def _judgement(verdict: Verdict) -> list[str]:
    gate, goal = verdict.bar(verdict.gate), verdict.bar(verdict.goal)
    reached = "" if verdict.goal is None else _mark(verdict.passes(verdict.goal))
    return [verdict.what, verdict.measured(), gate, _mark(verdict.passes(verdict.gate)), goal, reached]


def _mark(passes: bool | None) -> str:
    if passes is None:
        return "–"
    return "[green]PASS[/green]" if passes else "[red]MISS[/red]"


def _conditions_table(facts: Mapping[str, str]) -> Table:
    table = _table("Conditions", show_header=False)
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def versions(fields: Sequence[Field]) -> dict[str, str]:
    return {
        f"{program.name} on {field.place.name}": ", ".join(
            f"{name} {version}" for name, version in program.known.versions.items()
        )
        for field in fields
        for program in field.everybody()
    }


def as_data(outcomes: Sequence[Outcome], facts: Mapping[str, str], absent: Mapping[str, str]) -> dict[str, Any]:
    """Everything that was printed, and each round."""
    return {
        "conditions": dict(facts),
        "absent": dict(absent),
        "scenarios": [_outcome_data(outcome) for outcome in outcomes],
    }


def _outcome_data(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.scenario.name,
        "store": outcome.scenario.store,
        "title": outcome.scenario.title,
        "seconds": round(outcome.seconds),
        "contestants": [_standing_data(standing, outcome.scenario.metrics) for standing in outcome.standings],
        "verdicts": [_verdict_data(verdict) for verdict in outcome.verdicts],
    }


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    return {
        "what": verdict.what,
        "measured": verdict.measured(),
        "gate": verdict.bar(verdict.gate),
        "goal": verdict.bar(verdict.goal),
        "passes": verdict.passes(verdict.gate),
    }


def _standing_data(standing: Standing, metrics: Sequence[Metric]) -> dict[str, Any]:
    return {
        "label": standing.contestant.label,
        "peer": standing.contestant.peer,
        "settings": standing.contestant.settings,
        "medians": {metric.name: _rounded(standing.median(metric.name)) for metric in metrics},
        "rounds": [{name: _rounded(value) for name, value in taken.values.items()} for taken in standing.rounds],
        "series": [
            {name: [_rounded(value) for value in series] for name, series in taken.series.items()}
            for taken in standing.rounds
            if taken.series
        ],
        "failures": standing.failures,
    }


def _rounded(value: float | None) -> float | None:
    """Five digits say more than a machine can repeat."""
    return None if value is None else float(f"{value:.5g}")
