"""`conveyor doctor`: is the store well, and what is to be done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import click

from conveyor.cli.answers import chosen_url, print_json, show_text, store_options
from conveyor.doctor import Finding, Health, examine, worst_of
from conveyor.store.urls import make_keeper

_COLOURS: Final = {Health.OK: "green", Health.WARNING: "yellow", Health.PROBLEM: "red"}


@click.command()
@click.option("--thorough", is_flag=True, help="Check every page and index to the end, however long that takes.")
@store_options
def doctor(*, thorough: bool, url: str | None, as_json: bool) -> None:
    """Examine the store, and say what to do. Only looks: changes nothing, and works beside running workers.

    Each check says ok, warning or problem. Exit code 1 if one of them is a problem.

    \b
    Example:
      conveyor doctor
      conveyor doctor --json --thorough
    """
    keeper = make_keeper(chosen_url(url))
    findings = examine(keeper.examine(is_thorough=thorough))
    worst = worst_of(findings)
    if as_json:
        print_json({"store": keeper.where, "verdict": worst, "checks": findings})
    else:
        _print_findings(findings)
        _print_sum(findings)
    sys.exit(1 if worst is Health.PROBLEM else 0)


def _print_findings(findings: Sequence[Finding]) -> None:
    width = max(len(each.check) for each in findings)
    for each in findings:
        verdict = click.style(f"{each.verdict:8}", fg=_COLOURS[each.verdict])
        click.echo(f"{verdict} {each.check:{width}}  {show_text(each.found)}")
        if each.hint:
            click.echo(f"{'':8} {'':{width}}  hint: {show_text(each.hint)}")


def _print_sum(findings: Sequence[Finding]) -> None:
    counts = {health: sum(each.verdict is health for each in findings) for health in Health}
    click.echo(f"{counts[Health.PROBLEM]} problem(s), {counts[Health.WARNING]} warning(s), {counts[Health.OK]} ok")
