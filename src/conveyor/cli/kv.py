"""`conveyor kv`: named values, as apps see them in `app.kv("NAME")`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from conveyor.cli.answers import DurationType, ask, print_facts, print_rows, show_moment, store_options
from conveyor.kv import KV, LIST_MAX, TTL_MS_MAX
from conveyor.model.errors import NotFoundError
from conveyor.model.settings import check_name
from conveyor.store.protocol import Store

_TTL = DurationType(least_ms=1, most_ms=TTL_MS_MAX)


@click.group()
def kv() -> None:
    """Read and write named values.

    \b
    Example:
      conveyor kv put SETTINGS greeting "good morning" --ttl 1d
      conveyor kv get SETTINGS greeting
    """


@kv.command()
@click.argument("namespace")
@click.argument("key")
@store_options
def get(namespace: str, key: str, *, url: str | None, as_json: bool) -> None:
    """Write a value to stdout, byte for byte; exit code 1 if there is none."""
    found = ask(url, lambda store: _space(store, namespace).get_entry(key))
    if found is None:
        raise NotFoundError(f"`{namespace}` has no key `{key}`", hint=f"see `conveyor kv list {namespace}`")
    if as_json:
        expires_at = None if found.expires_at is None else found.expires_at.isoformat()
        value = found.value.decode("utf-8", "replace")
        print_facts({"key": key, "value": value, "metadata": found.metadata, "expires_at": expires_at}, as_json=True)
        return
    sys.stdout.buffer.write(found.value)
    if sys.stdout.isatty():
        click.echo()


@kv.command()
@click.argument("namespace")
@click.argument("key")
@click.argument("value", required=False)
@click.option("--path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Take a file's content.")
@click.option("--ttl", type=_TTL, help="How long it lives, as in 90, 5m or 7d; else for ever.")
@store_options
def put(
    namespace: str, key: str, value: str | None, *, path: Path | None, ttl: int | None, url: str | None, as_json: bool
) -> None:
    """Keep a value under a key."""
    if (value is None) == (path is None):
        raise click.UsageError("give either VALUE or --path")
    content = path.read_bytes() if path is not None else str(value).encode(errors="surrogateescape")
    seconds = None if ttl is None else ttl / 1000
    ask(url, lambda store: _space(store, namespace).put(key, content, ttl=seconds))
    if as_json:
        print_facts({"namespace": namespace, "key": key, "bytes": len(content)}, as_json=True)
    else:
        click.echo(f"kept {len(content):,} bytes under `{key}` in `{namespace}`")


@kv.command("list")
@click.argument("namespace")
@click.option("--prefix", default="", help="Only keys that begin so.")
@click.option("--limit", type=click.IntRange(1, LIST_MAX), default=LIST_MAX, show_default=True, help="At most so many.")
@store_options
def list_keys(namespace: str, *, prefix: str, limit: int, url: str | None, as_json: bool) -> None:
    """Keys, in the order of their bytes."""
    page = ask(url, lambda store: _space(store, namespace).list(prefix=prefix, limit=limit))
    rows: list[dict[str, Any]] = [
        {
            "key": each.name,
            "expires_at": show_moment(None if each.expires_at is None else round(each.expires_at.timestamp() * 1000)),
            "metadata": each.metadata,
        }
        for each in page.keys
    ]
    columns = ("key", "expires_at", "metadata")
    print_rows(rows, columns=columns, as_json=as_json, empty=f"`{namespace}` holds no such key")
    if not page.list_complete and not as_json:
        click.echo(f"(the first {limit:,}; narrow with --prefix)", err=True)


@kv.command()
@click.argument("namespace")
@click.argument("key")
@store_options
def delete(namespace: str, key: str, *, url: str | None, as_json: bool) -> None:
    """Forget a value; exit code 1 if there is none."""
    if not ask(url, lambda store: _space(store, namespace).delete(key)):
        raise NotFoundError(f"`{namespace}` has no key `{key}`", hint=f"see `conveyor kv list {namespace}`")
    if as_json:
        print_facts({"namespace": namespace, "deleted": key}, as_json=True)
    else:
        click.echo(f"`{key}` is gone from `{namespace}`")


def _space(store: Store, namespace: str) -> KV:
    check_name("namespace", namespace)
    return KV(store, _is_open, namespace)


async def _is_open() -> None:
    """`ask` has opened it."""
