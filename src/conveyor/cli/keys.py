"""`conveyor keys`: those that seal payloads and secrets at rest, and what is sealed with them."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import msgspec

from conveyor.audit.trail import Audit, operator
from conveyor.cli.answers import ask, chosen_url, print_rows, say, store_options
from conveyor.queue.sealing import VARIABLE, Sealer
from conveyor.rotation import Rotated, rotate
from conveyor.secrets import FILE, Keys
from conveyor.server.tokens import read_environment
from conveyor.store.chosen import choose_files
from conveyor.store.protocol import Store


@click.group()
def keys() -> None:
    """Make keys, list them, and seal anew what old ones have sealed.

    \b
    Example:
      conveyor keys make
      conveyor keys rotate
    """


@keys.command("list")
@store_options
def list_keys(*, url: str | None, as_json: bool) -> None:
    """The ids of the keys that are here; the first one seals, each of them opens."""
    place = f"${VARIABLE}" if os.environ.get(VARIABLE) else str(choose_files(chosen_url(url)) / FILE)
    rows: list[dict[str, Any]] = [
        {"id": key_id, "seals": number == 0, "place": place} for number, key_id in enumerate(_keys(url).ids)
    ]
    empty = "no keys yet; make one: `conveyor keys make`"
    print_rows(rows, columns=("id", "seals", "place"), as_json=as_json, empty=empty)


@keys.command()
@store_options
def make(*, url: str | None, as_json: bool) -> None:
    """Put a new key on top of the file of keys: it seals from now on, and the others still open.

    Processes that run take it up when they start again. Where several machines share a store they need the same file,
    or the same CONVEYOR_SECRETS_KEY: give all of them the new key below the old one before any has it on top.
    """
    key_id = _keys(url).add()
    place = str(choose_files(chosen_url(url)) / FILE)
    say(f"the key `{key_id}` seals from now on; it lies in {place}", {"id": key_id, "place": place}, as_json=as_json)


@keys.command("rotate")
@click.option("--dry-run", is_flag=True, help="Count what other keys have sealed, and change nothing.")
@store_options
def rotate_keys(*, dry_run: bool, url: str | None, as_json: bool) -> None:
    """Seal anew with the first key: messages that wait, in groups too, dead letters, and the secrets of apps and
    webhooks.

    It may run beside workers, and be run again. Exit code 1 if something is left: somebody works on it just now, or its
    key is not here. Results and steps of jobs are not sealed anew; they go when their time is over.

    \b
    Example:
      conveyor keys rotate --dry-run
      conveyor keys rotate
    """
    own = _keys(url)

    async def question(store: Store) -> Rotated:
        result = "interrupted"
        try:
            done = await rotate(store, own, Sealer((), own.for_payloads), is_rehearsal=dry_run)
            result = "ok"
        finally:  # what was sealed anew until then stays so
            if not dry_run and own.ids:
                audit = Audit(store, pepper=read_environment()[1])
                await audit.record(operator(), "keys.rotate", own.ids[0], result=result)
        return done

    done = ask(url, question)
    counts = f"{done.messages:,} messages, {done.secrets:,} secrets and {done.webhooks:,} webhooks"
    verb = "would be" if dry_run else "are"
    say(f"{counts} {verb} sealed anew; {done.busy:,} busy, {done.locked:,} locked", _facts(done), as_json=as_json)
    if done.busy or done.locked:
        sys.exit(1)


def _facts(done: Rotated) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(done)
    return facts


def _keys(url: str | None) -> Keys:
    return Keys(lambda: choose_files(chosen_url(url)))
