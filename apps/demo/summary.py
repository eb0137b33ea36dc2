"""What the two days came to: the table, the verdict on the numbers, and where to look next."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .progress import Mark, Progress
from .screen import retries
from .stage import APPLICATION, Stage

SAVINGS_MIN = 0.85
MOVIES_FOR_SAVINGS = 40
"""With fewer movies the list and the new releases weigh too much for a fixed bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day's run, and what should have come of it."""

    name: str
    progress: Progress
    movies: int
    new: int

    @property
    def calls(self) -> int:
        """Provider calls of the day."""
        return sum(self.progress.calls.values())


def judge(first: Day, second: Day, *, gone_movie_id: int) -> list[str]:
    """Everything that is not as it should be; empty is good."""
    problems = [*_judge_day(first, gone_movie_id), *_judge_day(second, gone_movie_id)]
    if not first.progress.count(Mark.DEAD):
        problems.append(f"{first.name}: no dead letter was reported")
    if second.calls >= first.calls:
        problems.append(f"{second.name}: {second.calls} provider calls, not fewer than the {first.calls} before")
    if first.movies >= MOVIES_FOR_SAVINGS and savings(first, second) < SAVINGS_MIN:
        problems.append(f"only {savings(first, second):.0%} of the provider calls were saved")
    return problems


def _judge_day(day: Day, gone_movie_id: int) -> list[str]:
    wanted = {
        "status": "partial",
        "movies_fetched": day.movies,
        "roasts_processed": day.movies - 1,
        "roasts_generated": day.new,
        "roasts_cached": day.movies - 1 - day.new,
        "roasts_failed": 1,
        "failed_movie_ids": [gone_movie_id],
    }
    result = day.progress.result
    return [
        f"{day.name}: {name} is {result.get(name)}, not {value}"
        for name, value in wanted.items()
        if result.get(name) != value
    ]


def savings(first: Day, second: Day) -> float:
    """The share of provider calls that the caches saved."""
    return 1 - second.calls / first.calls if first.calls else 0.0


def print_summary(console: Console, first: Day, second: Day, status: Mapping[str, Any]) -> None:
    """The status document's last run, and both days side by side."""
    console.print(Text("\nGET /cron/status, last_run:"))
    console.print_json(data=status["last_run"])
    table = Table(title="two days of plotburn", title_justify="left")
    table.add_column("")
    for day in (first, second):
        table.add_column(day.name, justify="right")
    for name in ("movies_fetched", "roasts_generated", "roasts_cached", "roasts_failed", "duration_ms", "status"):
        table.add_row(name, *(str(day.progress.result.get(name)) for day in (first, second)))
    table.add_row("rate limited (429)", *(str(day.progress.count(Mark.LIMITED)) for day in (first, second)))
    table.add_row("retries", *(str(retries(day.progress)) for day in (first, second)))
    table.add_section()
    for provider in sorted({*first.progress.calls, *second.progress.calls}):
        table.add_row(f"{provider} calls", *(str(day.progress.calls.get(provider, 0)) for day in (first, second)))
    table.add_row("provider calls", str(first.calls), str(second.calls), style="bold")
    console.print(table)
    saved = f"day 2 needed {second.calls} provider calls instead of {first.calls}: {savings(first, second):.0%} saved"
    console.print(Text(saved, style="bold"))


def print_verdict(console: Console, problems: list[str], first: Day) -> None:
    """Right or wrong, in words."""
    if problems:
        console.print(Text("\nThe numbers are not right:", style="bold red"))
        for problem in problems:
            console.print(Text(f"  ✗ {problem}"), soft_wrap=True)
        return
    console.print(Text(f"✓ {first.movies - 1} roasts and 1 dead letter: the numbers are right", style="bold green"))


def print_directions(console: Console, stage: Stage) -> None:
    """Where to look next."""
    lines = _live_directions(stage) if stage.settings.keep else _later_directions(stage)
    console.print(Text("\nWhere to look next", style="bold"))
    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)


def _live_directions(stage: Stage) -> list[str]:
    return [
        f"status      curl {stage.url}/cron/status",
        f"one roast   curl {stage.url}/movie/{stage.movie_ids()[0]}",
        f"log lines   curl '{stage.url}/logs?limit=50'",
        f"again       curl -X POST -H 'x-api-key: {stage.api_key}' {stage.url}/cron/trigger",
        f"a new day   curl -X POST -d '{{\"day\": 2}}' {stage.sandbox_url}/admin/day",
        f"            curl -X DELETE -H 'x-api-key: {stage.api_key}' {stage.url}/cache/clear/now-playing",
        f"dead letter conveyor dlq list movie-processing-dlq --url {stage.store_url}",
    ]


def _later_directions(stage: Stage) -> list[str]:
    lines = ["conveyor demo --keep     the same, and the server stays up, with curl commands to try"]
    if stage.settings.data is not None:
        lines.append(f"conveyor dlq list movie-processing-dlq --url {stage.store_url}")
        lines.append(f"CONVEYOR_URL={stage.store_url} conveyor serve {APPLICATION}     with your own keys")
    lines.append(f"{_readme()}     how the application is built, and how it runs with real keys")
    return lines


def _readme() -> Path:
    """From here, if it lies below."""
    path = Path(__file__).resolve().parents[1] / "plotburn" / "README.md"
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
