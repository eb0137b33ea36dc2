"""`python -m bench`: measure conveyor beside its peers and print what came of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.field import Field, gather_field
from bench.machine import conditions, load_average
from bench.program import ROOT
from bench.report import as_data, open_console, print_report, versions
from bench.rounds import Outcome, play, steps_of
from bench.scenario import Options, Scenario
from bench.scenarios import SCENARIOS


def main() -> int:
    """0 when everything could be measured, whatever the judgement; 1 when something failed to run."""
    arguments = _parser().parse_args()
    console = open_console()
    arguments.dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=arguments.dir) as directory:
        options = Options(arguments.rounds, arguments.quick, Path(directory))
        with console.status("asking who can take part (the first time this builds .venv-bench)"):
            facts, field = conditions(options.directory), gather_field(options.directory)
        outcomes = _play_all(console, [SCENARIOS[name](field, options) for name in arguments.only], options)
    return _finish(console, outcomes, facts, field, arguments)


def _finish(
    console: Console, outcomes: Sequence[Outcome], facts: dict[str, str], field: Field, arguments: argparse.Namespace
) -> int:
    facts |= {"load average at the end": load_average(), "rounds": str(arguments.rounds), **versions(field)}
    print_report(console, outcomes, facts, field.absent)
    if arguments.json:
        arguments.json.write_text(json.dumps(as_data(outcomes, facts, field.absent), indent=2) + "\n")
    return int(any(outcome.failed for outcome in outcomes) or field.conveyor is None)


def _play_all(console: Console, scenarios: Sequence[Scenario], options: Options) -> list[Outcome]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("", total=sum(steps_of(scenario, options) for scenario in scenarios))

        def announce(what: str) -> None:
            progress.update(task, description=what)
            if not console.is_terminal:
                console.print(what)

        outcomes = []
        for scenario in scenarios:
            outcomes.append(play(scenario, options, announce))
            progress.update(task, completed=sum(steps_of(outcome.scenario, options) for outcome in outcomes))
    return outcomes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=3, help="rounds of each scenario (default 3)")
    parser.add_argument("--only", type=_names, default=list(SCENARIOS), help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--quick", action="store_true", help="short stretches: does it run, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there as well")
    parser.add_argument("--dir", type=Path, default=ROOT / "bench" / ".run", help="where the queues' files go")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
