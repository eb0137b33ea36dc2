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
    table = _table(f"{scenario.name}: {scenario.title}")
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
    return "–" if ratio is None else f"{ratio:.2f}x"


def _judgement_table(outcomes: Sequence[Outcome]) -> Table:
    table = _table("Judgement (ratios of medians)")
    for heading in ("what", "measured", "gate", "", "goal", ""):
        table.add_column(heading, justify="left" if heading == "what" else "right", no_wrap=True)
    for outcome in outcomes:
        for verdict in outcome.verdicts:
            table.add_row(*_judgement(verdict))
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


def versions(field: Field) -> dict[str, str]:
    return {
        f"{program.name} ran on": ", ".join(f"{name} {version}" for name, version in program.versions.items())
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
        "title": outcome.scenario.title,
        "contestants": [_standing_data(standing, outcome.scenario.metrics) for standing in outcome.standings],
        "verdicts": [
            {"what": verdict.what, "value": verdict.value, "gate": verdict.bar(verdict.gate)}
            | {"goal": verdict.bar(verdict.goal), "passes": verdict.passes(verdict.gate)}
            for verdict in outcome.verdicts
        ],
    }


def _standing_data(standing: Standing, metrics: Sequence[Metric]) -> dict[str, Any]:
    return {
        "label": standing.contestant.label,
        "settings": standing.contestant.settings,
        "medians": {metric.name: standing.median(metric.name) for metric in metrics},
        "rounds": standing.rounds,
        "failures": standing.failures,
    }
