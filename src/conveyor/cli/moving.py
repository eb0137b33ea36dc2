"""`conveyor move`: from one store to another."""

from __future__ import annotations

import asyncio

import click

from conveyor.cli.answers import DurationType, check_there, json_option, print_json
from conveyor.cli.keeping import show_progress
from conveyor.model.clock import SystemClock
from conveyor.store import moving
from conveyor.store.urls import make_keeper


@click.command()
@click.argument("source_url")
@click.argument("target_url")
@click.option("--wait", type=DurationType(), default=0, metavar="DURATION", help="Wait so long for workers to end.")
@click.option("--keep-source", is_flag=True, help="Leave the source open: then there are two of every message.")
@json_option
def move(source_url: str, target_url: str, *, wait: int, keep_source: bool, as_json: bool) -> None:
    """Take everything in one store to another: SQLite to PostgreSQL, back, or between two of a kind.

    Queues, consumers, messages with their attempts and dead letters, schedules, runs and values go; the target must be
    empty. Stop the workers first: the move refuses while one lives, and other processes wait until it has ended. What
    arrived is read back and compared. Then the source is closed: whoever opens it, or writes to it still, is told where
    everything is. After a kill the source is as it was, or the same command ends the move.

    \b
    Example:
      conveyor move sqlite:///conveyor.db postgresql://app@db.internal/app
    """
    check_there(source_url)
    source, target = make_keeper(source_url), make_keeper(target_url)
    with show_progress("moving") as progress:
        moved = asyncio.run(
            moving.move(
                source, target, clock=SystemClock(), wait_s=wait / 1000, keeps_source=keep_source, progress=progress
            )
        )
    if as_json:
        print_json(moved)
        return
    if moved.tables:
        messages = moved.tables["messages"].rows
        click.echo(f"moved {messages:,} message(s), and all that goes with them, in {moved.seconds:.1f} s")
    else:
        click.echo("ended an earlier move, which had carried everything")
    if keep_source:
        click.echo("the source is left open")
    else:
        click.echo(f"the source is closed: point CONVEYOR_URL to `{target.address}`")
