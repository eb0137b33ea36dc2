"""`conveyor tokens`: who may talk to the server. On the store itself it needs no token; with `--server` one with the
right `admin`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click
import msgspec

from conveyor.audit.trail import operator
from conveyor.cli.answers import (
    DurationType,
    as_remote,
    ask,
    confirm,
    force_option,
    print_facts,
    print_json,
    print_rows,
    show_moment,
    store_options,
    tell,
)
from conveyor.server.rights import Right
from conveyor.server.tokens import Token, Tokens, read_environment
from conveyor.store.protocol import Store

if TYPE_CHECKING:
    from conveyor.remote.tokens import FarToken

Made: TypeAlias = "tuple[Token | FarToken, str]"
_EXPIRY: Final = DurationType(least_ms=1_000)
_COLUMNS: Final = ("id", "name", "rights", "queues", "expires_at", "last_used_at", "created_by")


@click.group()
def tokens() -> None:
    """Make, list, rotate and revoke the tokens of both APIs.

    \b
    Example:
      conveyor tokens create checkout --send --queue "orders-*" --expires 90d
      conveyor tokens list
      conveyor tokens revoke 0123456789abcdef
    """


@tokens.command()
@click.argument("name")
@click.option("--send", "rights", flag_value="send", multiple=True, help="May send messages.")
@click.option("--consume", "rights", flag_value="consume", multiple=True, help="May pull and settle messages.")
@click.option("--read", "rights", flag_value="read", multiple=True, help="May look at everything, bodies too.")
@click.option("--manage", "rights", flag_value="manage", multiple=True, help="May change queues and the rest; reads.")
@click.option("--admin", "rights", flag_value="admin", multiple=True, help="May do all that, and make tokens.")
@click.option("--queue", "queues", multiple=True, help="Only in queues of this pattern, as in `orders-*`; repeatable.")
@click.option("--expires", type=_EXPIRY, help="How long it lives, as in 12h or 90d; else until it is revoked.")
@store_options
def create(
    name: str,
    *,
    rights: tuple[str, ...],
    queues: tuple[str, ...],
    expires: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Make a token, and show it once."""

    async def make(store: Store) -> Made:
        far = as_remote(store)
        if far is not None:
            return await far.tokens.create(name, list(rights), queues=list(queues) or None, expires_in_ms=expires)
        until = None if expires is None else store.clock.now_ms() + expires
        wanted = frozenset(map(Right, rights))
        who = operator()
        return await _tokens(store).create(name, wanted, queues=queues or None, expires_at=until, created_by=who.name)

    _show_made(*tell(url, make), as_json=as_json)


@tokens.command("list")
@store_options
def list_tokens(*, url: str | None, as_json: bool) -> None:
    """All tokens, without their secrets."""

    async def question(store: Store) -> Sequence[Token | FarToken]:
        far = as_remote(store)
        return await (_tokens(store).list() if far is None else far.tokens.list_all())

    found = ask(url, question)
    rows = [_row(each) for each in found]
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty="there are no tokens: `conveyor tokens create`")


@tokens.command()
@click.argument("token_id", metavar="ID")
@click.option("--overlap", type=DurationType(), default="1h", show_default=True, help="How long the old one is good.")
@store_options
def rotate(token_id: str, *, overlap: int, url: str | None, as_json: bool) -> None:
    """Make another token with the same rights; the old one ends after the overlap."""

    async def make(store: Store) -> Made:
        far = as_remote(store)
        if far is not None:
            return await far.tokens.rotate(token_id, overlap_ms=overlap)
        who = operator()
        return await _tokens(store).rotate(token_id, overlap_ms=overlap, created_by=who.name)

    _show_made(*ask(url, make), as_json=as_json)


@tokens.command()
@click.argument("token_id", metavar="ID")
@force_option
@store_options
def revoke(token_id: str, *, force: bool, url: str | None, as_json: bool) -> None:
    """End a token; every server refuses it within 5 s."""
    confirm(f"revoke token `{token_id}`", force=force)

    async def end(store: Store) -> Token | FarToken:
        far = as_remote(store)
        return await (_tokens(store) if far is None else far.tokens).revoke(token_id)

    ended = ask(url, end)
    if as_json:
        print_json(_row(ended))
    else:
        click.echo(f"token `{ended.id}` ({ended.name}) is revoked; servers refuse it within 5 s")


def _show_made(token: Token | FarToken, secret: str, *, as_json: bool) -> None:
    """The one place where a token is shown."""
    if as_json:
        print_json({**_row(token), "token": str(secret)})
        return
    print_facts({name: value for name, value in _row(token).items() if value is not None}, as_json=False)
    click.echo(f"\n{secret}\n")
    click.echo("(keep it now: it is not shown again)")


def _row(token: Token | FarToken) -> dict[str, Any]:
    row = msgspec.to_builtins(token)
    moments = {name: show_moment(row[name]) for name in ("created_at", "expires_at", "last_used_at")}
    return {**row, **moments}


def _tokens(store: Store) -> Tokens:
    return Tokens(store, pepper=read_environment()[1])
