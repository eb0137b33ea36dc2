"""`conveyor demo`: plotburn's day against the sandbox. The show itself lives in `conveyor_apps.demo`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click


@click.command()
@click.option("--keep", is_flag=True, help="Leave the server up until Ctrl-C, to look around.")
@click.option("--movies", type=click.IntRange(5, 300), default=50, show_default=True, help="Movies in the cinemas.")
@click.option("--processes", "-p", type=click.IntRange(1, 8), default=2, show_default=True, help="Worker processes.")
@click.option("--data", type=click.Path(path_type=Path), help="A new or empty folder for the files.")
def demo(*, keep: bool, movies: int, processes: int, data: Path | None) -> None:
    """Run plotburn end to end against a sandbox, and show what happens.

    Needs no key, no network and no database: every movie in the cinemas is looked up, roasted and published, some calls
    fail on purpose, and at the end the numbers must be right. Exit code 0 says that they are.

    \b
    Example:
      conveyor demo --movies 20 --keep
    """
    show = importlib.import_module("conveyor_apps.demo")  # by name: nothing in here depends on an app
    sys.exit(show.main(keep=keep, movies=movies, processes=processes, data=data))
