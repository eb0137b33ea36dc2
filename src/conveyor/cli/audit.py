"""`conveyor audit`: who changed what, and whether the trail is whole."""

from __future__ import annotations

import re
import sys
from typing import Any

import click
import msgspec

from conveyor.audit.trail import Audit, Examined, Record, Wanted
from conveyor.cli.answers import DurationType, as_remote, ask, print_json, print_rows, show_moment, store_options
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
@click.option("--who", default=None, help="Only of this token, user, or `user@host`; `*` stands for any signs.")
@click.option("--action", default=None, help="Only this, as in `queue.*`.")
@click.option("--target", default=None, help="Only what was done to this, as in `orders-*`.")
@click.option("--since", "since_ms", type=DurationType(), default=None, help="Only those of the last 2h, 7d, ...")
@store_options
def list_records(
    *, limit: int, before: int | None, who: str | None, action: str | None, target: str | None,
    since_ms: int | None, url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """The newest records first. `--json` also shows what was changed, as it was before and after.

    \b
    Example:
      conveyor audit list --action "queue.*" --since 7d
      conveyor audit list --who "anna@*" --target orders --json
    """

    async def question(store: Store) -> list[Record]:
        since = None if since_ms is None else store.clock.now_ms() - since_ms
        wanted = Wanted(who=who, action=action, target=target, since=since)
        far = as_remote(store)
        if far is not None:
            return await far.trail.search(wanted, limit=limit, before=before)
        found: list[Record] = []
        following = before
        while len(found) < limit:
            page, following = await _audit(store).search(wanted, limit=limit - len(found), before=following)
            found += page
            if following is None:
                break
        return found

    found = ask(url, question)
    columns = ("number", "at", "name", "actor", "address", "via", "action", "target", "change", "result")
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

    async def question(store: Store) -> Examined:
        far = as_remote(store)
        return await (_audit(store) if far is None else far.trail).verify(expected=head)

    found = ask(url, question)
    if as_json:
        print_json(found)
    else:
        for fault in found.faults:
            click.echo(f"record {fault.number} {fault.problem}", err=True)
        click.echo(f"{found.records:,} records, {len(found.faults)} faults; head {found.head}")
    if found.faults:
        sys.exit(1)


def _row(record: Record) -> dict[str, Any]:
    return {**msgspec.to_builtins(record), "at": show_moment(record.at), "change": _change(record)}


def _change(record: Record) -> str | None:
    """In a few words: `paused: false -> true`."""
    before, after = record.before or {}, record.after or {}
    if record.before is not None and record.after is not None:
        sides = [(name, _told(before, name), _told(after, name)) for name in (before | after)]
        return ", ".join(f"{name}: {was} -> {now}" for name, was, now in sides)
    if record.count is not None:
        return f"{record.count:,}"
    return None


def _told(facts: dict[str, Any], name: str) -> str:
    return msgspec.json.encode(facts[name]).decode() if name in facts else "-"


def _audit(store: Store) -> Audit:
    return Audit(store, pepper=read_environment()[1])
