"""`python -m bench`: measure conveyor beside its peers and print what came of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.field import Field, gather_field
from bench.machine import conditions, load_average
from bench.places import Files, Place
from bench.postgres import Server
from bench.program import ROOT, MeasureError
from bench.report import as_data, open_console, print_report, versions
from bench.rounds import Outcome, play, steps_of
from bench.scenario import Options, Scenario
from bench.scenarios import SCENARIOS

LIFE = 10_000_000
STORES = {"sqlite": ["sqlite"], "postgres": ["postgres"], "both": ["sqlite", "postgres"]}


def main() -> int:
    """0 when everything could be measured, whatever the judgement; 1 when something failed to run."""
    arguments = _parser().parse_args()
    console, began = open_console(), datetime.now(UTC)
    arguments.dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=arguments.dir) as directory:
        Path(directory).chmod(0o755)
        options = Options(arguments.rounds, arguments.quick, arguments.held, arguments.messages, Path(directory))
        facts, absent = {"began": f"{began:%Y-%m-%d %H:%M} UTC", **conditions(options.directory)}, {}
        outcomes: list[Outcome] = []
        fields: list[Field] = []
        for store in STORES[arguments.store]:
            try:
                with _place(store, options.directory) as place:
                    fields.append(_gather(console, place, options, arguments))
                    outcomes += _play_all(console, fields[-1], options, arguments.only)
            except MeasureError as error:
                absent[store] = str(error)
    for field in fields:
        facts |= field.place.facts()
        absent |= field.absent
    return _finish(console, outcomes, facts, absent, fields, arguments)


@contextmanager
def _place(store: str, directory: Path) -> Iterator[Place]:
    if store == "sqlite":
        yield Files()
        return
    server = Server(directory / "postgres")
    try:
        yield server
    finally:
        server.remove()


def _gather(console: Console, place: Place, options: Options, arguments: argparse.Namespace) -> Field:
    with console.status("asking who can take part (the first time this builds .venv-bench)"):
        return gather_field(place, options.directory, guests=arguments.peer, wanted=arguments.who)


def _finish(
    console: Console,
    outcomes: Sequence[Outcome],
    facts: dict[str, str],
    absent: dict[str, str],
    fields: Sequence[Field],
    arguments: argparse.Namespace,
) -> int:
    facts |= {"load average at the end": load_average(), "rounds": str(arguments.rounds), **versions(fields)}
    facts["lengths"] = _lengths(arguments)
    print_report(console, outcomes, facts, absent)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(as_data(outcomes, facts, absent), indent=1) + "\n")
    return int(any(outcome.failed for outcome in outcomes) or not outcomes)


def _lengths(arguments: argparse.Namespace) -> str:
    """A life is ten million messages; what is shorter says so."""
    if arguments.quick:
        return "short (--quick)"
    is_short = "age" in arguments.only and arguments.messages < LIFE
    return f"full, but age is short: {arguments.messages:,} messages of {LIFE:,}" if is_short else "full"


def _play_all(console: Console, field: Field, options: Options, names: Sequence[str]) -> list[Outcome]:
    scenarios = [made for name in names if (made := SCENARIOS[name](field, options)).contestants]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("", total=_steps(scenarios, options))

        def announce(what: str) -> None:
            progress.update(task, description=what)
            if not console.is_terminal:
                console.print(what)

        outcomes = []
        for scenario in scenarios:
            outcomes.append(play(scenario, options, announce))
            progress.update(task, completed=_steps([outcome.scenario for outcome in outcomes], options))
    return outcomes


def _steps(scenarios: Sequence[Scenario], options: Options) -> int:
    return sum(steps_of(scenario, options) for scenario in scenarios)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--store", choices=STORES, default="both", help="where the queues live (default both)")
    parser.add_argument("--rounds", type=_positive, default=3, help="rounds of each scenario (default 3)")
    parser.add_argument("--only", type=_names, default=list(SCENARIOS), help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--who", type=_words, default=[], help="only these take part, as in conveyor,pgqueuer")
    parser.add_argument("--peer", action="append", default=[], metavar="MODULE:CLASS", help="a queue of yours, too")
    parser.add_argument("--held", type=_positive, default=30, metavar="SECONDS", help="how long a snapshot is held")
    parser.add_argument("--messages", type=_positive, default=300_000, metavar="N", help="how many a day of age has")
    parser.add_argument("--quick", action="store_true", help="short stretches: does it run, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there as well")
    parser.add_argument("--dir", type=Path, default=ROOT / "bench" / ".run", help="where the queues' files go")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _names(text: str) -> list[str]:
    names = _words(text)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
