"""`conveyor audit`: who changed what, and whether the trail is whole."""

from __future__ import annotations

import re
import sys
from typing import Any

import click
import msgspec

from conveyor.cli.answers import ask, print_json, print_rows, show_moment, store_options
from conveyor.audit.trail import Audit, Record
from conveyor.server.tokens import read_environment
from conveyor.store.protocol import Store

_HEAD = re.compile(r"[0-9]{1,16}:[0-9a-f]{64}")


@click.group()
def audit() -> None:
    """Read the audit trail, and prove that nobody changed it.

    \b
    Example:
      conveyor audit list
      conveyor audit verify
    """


@audit.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("--before", type=click.IntRange(1), default=None, help="Only those before this number.")
@store_options
def list_records(*, limit: int, before: int | None, url: str | None, as_json: bool) -> None:
    """The newest records first."""
    found = ask(url, lambda store: _audit(store).list(limit=limit, before=before))
    columns = ("number", "at", "name", "actor", "address", "action", "target", "result")
    print_rows([_row(each) for each in found], columns=columns, as_json=as_json, empty="nothing was recorded yet")


@audit.command()
@click.option("--head", default=None, help="NUMBER:HASH, as an earlier `verify` gave it and you kept it elsewhere.")
@store_options
def verify(*, head: str | None, url: str | None, as_json: bool) -> None:
    """Read the whole trail; exit code 1 if a record was edited, taken away, moved or cut off.

    Keep the head that it shows somewhere else: with it, a later `verify --head` also finds a trail that was written
    anew from the first record on.
    """
    if head is not None and not _HEAD.fullmatch(head):
        raise click.BadParameter("is NUMBER:HASH", param_hint="--head")
    found = ask(url, lambda store: _audit(store).verify(expected=head))
    if as_json:
        print_json(found)
    else:
        for fault in found.faults:
            click.echo(f"record {fault.number} {fault.problem}", err=True)
        click.echo(f"{found.records:,} records, {len(found.faults)} faults; head {found.head}")
    if found.faults:
        sys.exit(1)


def _row(record: Record) -> dict[str, Any]:
    return {**msgspec.to_builtins(record), "at": show_moment(record.at)}


def _audit(store: Store) -> Audit:
    return Audit(store, pepper=read_environment()[1])
