"""`conveyor retention`: for how long is kept what has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from conveyor.cli.answers import ask, print_rows, say, show_duration, show_moment, store_options
from conveyor.retention import FOREVER, KINDS, Due, Kept, Retention
from conveyor.store.protocol import Store

_COLUMNS: Final = ("kind", "scope", "keep", "said_by")
_DUE_COLUMNS: Final = ("kind", "scope", "rows", "oldest", "keep")
_kind = click.argument("kind", type=click.Choice(KINDS))
_scope = click.option("--queue", "--schedule", "scope", default=None, help="Only of this queue, or of this schedule.")


@click.group()
def retention() -> None:
    """Show and say for how long finished jobs, deliveries, runs, dead letters and the audit trail are kept.

    \b
    Example:
      conveyor retention set jobs 7d
      conveyor retention set jobs 1d --queue emails
      conveyor retention preview
    """


@retention.command("list")
@store_options
def list_policies(*, url: str | None, as_json: bool) -> None:
    """What is kept for how long, and who said so."""
    found = ask(url, lambda store: Retention(store).list())
    print_rows([_row(each) for each in found], columns=_COLUMNS, as_json=as_json, empty="nothing is kept")


@retention.command("set")
@_kind
@click.argument("keep")
@_scope
@store_options
def set_policy(kind: str, keep: str, *, scope: str | None, url: str | None, as_json: bool) -> None:
    """Keep KIND for so long, as in `7d` or `12h`, or `forever`. Holds for what is there already, too.

    Workers take away what is over, a little at a time; `conveyor retention preview` says what that would be.
    """
    found = ask(url, lambda store: Retention(store).set(kind, keep, scope=scope))
    say(f"{_place(kind, scope)}: {_keep(found.keep_ms)}", _row(found), as_json=as_json)


@retention.command()
@_kind
@_scope
@store_options
def clear(kind: str, *, scope: str | None, url: str | None, as_json: bool) -> None:
    """Keep KIND as it is usual again."""
    ask(url, lambda store: Retention(store).clear(kind, scope=scope))
    say(f"{_place(kind, scope)}: as usual", {"kind": kind, "scope": scope, "cleared": True}, as_json=as_json)


@retention.command()
@store_options
def preview(*, url: str | None, as_json: bool) -> None:
    """What would go now. Nothing is changed."""

    async def question(store: Store) -> Sequence[Due]:
        return await Retention(store).preview()

    rows = [
        {"kind": each.kind, "scope": each.scope, "rows": each.rows, "oldest": show_moment(each.oldest_at),
         "keep": _keep(each.keep_ms), "keep_ms": each.keep_ms}
        for each in ask(url, question)
    ]  # fmt: skip
    print_rows(rows, columns=_DUE_COLUMNS, as_json=as_json, empty="nothing is over")


def _row(kept: Kept) -> dict[str, Any]:
    return {
        "kind": kept.kind, "scope": kept.scope, "keep": _keep(kept.keep_ms), "keep_ms": kept.keep_ms,
        "said_by": kept.said_by,
    }  # fmt: skip


def _keep(keep_ms: int | None) -> str:
    return FOREVER if keep_ms is None else show_duration(keep_ms)


def _place(kind: str, scope: str | None) -> str:
    return kind.replace("_", " ") if scope is None else f"{kind.replace('_', ' ')} of `{scope}`"
