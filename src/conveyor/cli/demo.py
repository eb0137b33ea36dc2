"""`conveyor demo`: plotburn, the sandbox that stands in for its providers, and what happens, on the screen."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--keep", is_flag=True, help="Leave the server up at the end, and say where.")
@click.option("--movies", type=click.IntRange(2, 200), default=50, show_default=True, help="Now playing.")
@click.option("--processes", "-p", type=click.IntRange(1, 16), default=2, show_default=True, help="Worker processes.")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), default=None, help="Where to keep the files; else a temporary folder."
)
def demo(keep: bool, movies: int, processes: int, data: Path | None) -> None:  # noqa: FBT001 click passes a flag so
    """Run plotburn end to end on this machine: a sandbox of its providers, an SQLite file, supervised workers.

    The first run roasts every movie and dead-letters the one that is gone; the second shows what the caches save.
    Exit code 0 only if the numbers are right.
    """
    from conveyor_apps.demo import main

    sys.exit(main(keep=keep, movies=movies, processes=processes, data=data))
