"""`conveyor backup`, `restore` and `migrate`: what is done to a store as a whole."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from conveyor.cli.answers import (
    check_there,
    chosen_url,
    print_facts,
    print_json,
    print_rows,
    show_moment,
    store_options,
)
from conveyor.doctor.finding import show_bytes
from conveyor.model.errors import StoreUnsupportedError
from conveyor.store.keeping import Keeper, Progress
from conveyor.store.migrate import AppliedMigration, SchemaState
from conveyor.store.urls import make_keeper

_COLUMNS = ("number", "name", "state", "ran_at", "checksum")
_CHECKSUM_CHARS = 12


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--force", "-f", is_flag=True, help="Replace TARGET if it is there.")
@store_options
def backup(target: Path, *, force: bool, url: str | None, as_json: bool) -> None:
    """Copy the store to TARGET, while workers run.

    The copy is of one moment: whatever was acknowledged before the start is in it. It is synced to disk and checked
    before it gets its name, so TARGET is whole or not there. Whatever the store is, TARGET is a store in an SQLite
    file: `conveyor doctor --url sqlite:///TARGET` examines it, and it can be restored into either kind.

    \b
    Example:
      conveyor backup /backup/conveyor-monday.db
    """
    keeper = _keeper(url)
    with show_progress("backing up") as progress:
        copied = keeper.back_up(target, is_forced=force, progress=progress)
    if as_json:
        print_facts({"store": keeper.where, "backup": copied.path, "bytes": copied.copied_bytes}, as_json=True)
    else:
        click.echo(f"backed up `{keeper.where}` to `{copied.path}`, {show_bytes(copied.copied_bytes)}")


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--force", "-f", is_flag=True, help="Go on though the store is in use.")
@store_options
def restore(source: Path, *, force: bool, url: str | None, as_json: bool) -> None:
    """Put the backup SOURCE into the store's place. Stop every process that uses the store first.

    What was there is kept beside it: a file as `.before-restore-...`, a schema's tables in the schema `..._before_...`.
    Messages that were being worked on when the backup was made are delivered again. With --force, processes that are
    still up go on, with the file that is kept or the tables that are new.

    \b
    Example:
      conveyor restore /backup/conveyor-monday.db
    """
    keeper = make_keeper(chosen_url(url))
    with show_progress("restoring") as progress:
        copied = keeper.restore(source, is_forced=force, progress=progress)
    if as_json:
        facts = {"store": copied.path, "restored": str(source), "bytes": copied.copied_bytes, "kept": copied.kept}
        print_facts(facts, as_json=True)
        return
    click.echo(f"restored `{copied.path}` from `{source}`, {show_bytes(copied.copied_bytes)}")
    if copied.kept is not None:
        click.echo(f"what was there is kept as `{copied.kept}`")


@click.command()
@click.option("--plan", is_flag=True, help="Only say what is due.")
@click.option("--status", is_flag=True, help="Only say what ran, when, and what is due.")
@store_options
def migrate(*, plan: bool, status: bool, url: str | None, as_json: bool) -> None:
    """Bring the store's schema up to this release; the store is made if need be.

    All that is due runs in one transaction. Opening a store does the same; this is for a deploy that wants it done
    before.

    \b
    Example:
      conveyor migrate --plan
      conveyor migrate
    """
    if plan and status:
        raise click.UsageError("give --plan or --status, not both")
    if plan or status:
        _show_schema(_keeper(url).read_schema(), only_due=plan, as_json=as_json)
        return
    ran = make_keeper(chosen_url(url)).migrate()
    if as_json:
        print_json({"ran": [each.name for each in ran]})
    else:
        click.echo(f"ran {', '.join(each.name for each in ran)}" if ran else "nothing is due")


def _show_schema(schema: SchemaState, *, only_due: bool, as_json: bool) -> None:
    ran = [*_applied_rows(schema.applied, "applied"), *_applied_rows(schema.unknown, "unknown")]
    rows = _due_rows(schema) if only_due else [*ran, *_due_rows(schema)]
    if not as_json:
        rows = [{**row, "checksum": row["checksum"][:_CHECKSUM_CHARS]} for row in rows]
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty="nothing is due")
    if schema.problem is not None:
        raise StoreUnsupportedError(schema.problem, hint=schema.hint)


def _applied_rows(applied: list[AppliedMigration], state: str) -> list[dict[str, Any]]:
    return [
        {
            "number": each.number,
            "name": each.name,
            "state": state,
            "ran_at": show_moment(each.ran_at),
            "checksum": each.checksum,
        }
        for each in applied
    ]


def _due_rows(schema: SchemaState) -> list[dict[str, Any]]:
    return [
        {"number": each.number, "name": each.name, "state": "due", "ran_at": None, "checksum": each.checksum}
        for each in schema.due
    ]


def _keeper(url: str | None) -> Keeper:
    """Of a store that is there."""
    chosen = chosen_url(url)
    check_there(chosen)
    return make_keeper(chosen)


@contextlib.contextmanager
def show_progress(words: str) -> Iterator[Progress]:
    """A bar on stderr if a person looks."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(words, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
