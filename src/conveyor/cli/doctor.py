"""`conveyor doctor`: is the store well, and what is to be done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import click

from conveyor.cli.answers import print_json, show_text, store_options
from conveyor.doctor import Finding, Health, check_routes, examine, worst_of
from conveyor.doctor.api import examine_api, is_behind_api
from conveyor.loader import show_url
from conveyor.store.chosen import choose_stores
from conveyor.store.routing import Routing
from conveyor.store.urls import make_keeper

_COLOURS: Final = {Health.OK: "green", Health.WARNING: "yellow", Health.PROBLEM: "red"}


@click.command()
@click.option("--thorough", is_flag=True, help="Check every page and index to the end, however long that takes.")
@store_options
def doctor(*, thorough: bool, url: str | None, as_json: bool) -> None:
    """Examine the store, or each of several, and say what to do. Only looks: changes nothing, and works beside
    running workers.

    Each check says ok, warning or problem. Exit code 1 if one of them is a problem.

    \b
    Example:
      conveyor doctor
      conveyor doctor --json --thorough
    """
    routing = choose_stores(url or None)
    found = {name: _examine(name, routing, is_thorough=thorough) for name in routing.urls}
    everything = [each for _, findings in found.values() for each in findings]
    worst = worst_of(everything)
    if as_json:
        reports = [
            {"name": name, "store": where, "verdict": worst_of(findings), "checks": findings}
            for name, (where, findings) in found.items()
        ]
        one = {name: value for name, value in reports[0].items() if name != "name"}
        print_json({"verdict": worst, "stores": reports} if routing.stores else one)
    else:
        for name, (where, findings) in found.items():
            if routing.stores:
                click.echo(click.style(f"{name}: {where}", bold=True))
            _print_findings(findings)
        _print_sum(everything)
    sys.exit(1 if worst is Health.PROBLEM else 0)


def _examine(name: str, routing: Routing, *, is_thorough: bool) -> tuple[str, list[Finding]]:
    """Where the store is, and what is found there."""
    url = routing.urls[name]
    if is_behind_api(url):
        return show_url(url), examine_api(url)
    keeper = make_keeper(url)
    facts = keeper.examine(is_thorough=is_thorough)
    strays = check_routes(name, routing, facts) if routing.stores else None
    return keeper.where, [*examine(facts), *([strays] if strays is not None else [])]


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
