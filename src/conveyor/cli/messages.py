"""`conveyor messages`: send by hand, and look without taking; `pulled` takes and settles."""

from __future__ import annotations

import sys

import click
import msgspec

from conveyor.audit.act import looking
from conveyor.audit.trail import operator
from conveyor.cli.answers import (
    DurationType,
    ask,
    chosen_url,
    complete_queue,
    message_row,
    print_facts,
    print_rows,
    store_options,
)
from conveyor.cli.pulled import ack, pull, retry
from conveyor.model.ids import IdSource
from conveyor.model.message import COST_MAX, DELAY_MS_MAX, PEEK_MESSAGES_MAX, PRIORITY_MAX, ContentType, Peeked
from conveyor.model.settings import QueueSettings
from conveyor.queue.producer import Queue, SentMessage
from conveyor.secrets import sealer_here
from conveyor.store.protocol import Store

_TYPES = tuple(each.value for each in ContentType)
_COLUMNS = ("id", "state", "attempts", "ready_at", "body")


@click.group()
def messages() -> None:
    """Send messages by hand, look at those that wait, and take them as a consumer would.

    \b
    Example:
      conveyor messages send orders '{"id": 1}'
      conveyor messages peek orders
      conveyor messages pull orders
    """


@messages.command()
@click.argument("queue", shell_complete=complete_queue)
@click.argument("body")
@click.option("--content-type", type=click.Choice(_TYPES), default="json", show_default=True)
@click.option("--delay", type=DurationType(most_ms=DELAY_MS_MAX), help="Before it is delivered, as in 90, 5m or 1d.")
@click.option("--priority", type=click.IntRange(0, PRIORITY_MAX), help="Higher goes first; 5 is usual.")
@click.option("--key", help="What it belongs to, where the consumer goes by keys.")
@click.option("--cost", type=click.IntRange(1, COST_MAX), help="What it takes of the consumer's rates; 1 is usual.")
@click.option("--dedupe", help="A second message of this key is not added.")
@store_options
def send(
    queue: str,
    body: str,
    *,
    content_type: str,
    delay: int | None,
    priority: int | None,
    key: str | None,
    cost: int | None,
    dedupe: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Send BODY, which is JSON unless --content-type says otherwise; `-` reads it from stdin.

    \b
    Example:
      conveyor messages send orders '{"id": 1}' --delay 5m
      conveyor messages send letters --content-type text "good morning"
    """
    raw = sys.stdin.buffer.read() if body == "-" else body.encode(errors="surrogateescape")
    value = read_body(raw, ContentType(content_type))

    async def question(store: Store) -> SentMessage:
        async def settings_of(name: str) -> QueueSettings:
            return (await store.get_queue(name)).settings

        sealer = sealer_here(chosen_url(url))
        handle = Queue(store, IdSource(store.clock), settings_of, queue, sealer=sealer)
        seconds = None if delay is None else delay / 1000
        return await handle.send(
            value, content_type=content_type, delay=seconds, priority=priority, key=key, dedupe=dedupe, cost=cost
        )

    sent = ask(url, question)
    if as_json:
        print_facts({"id": sent.id, "deduped": sent.deduped}, as_json=True)
    else:
        click.echo(f"{sent.id} was there already" if sent.deduped else sent.id)


@messages.command()
@click.argument("queue", shell_complete=complete_queue)
@click.option("--limit", type=click.IntRange(1, PEEK_MESSAGES_MAX), default=20, show_default=True, help="At most.")
@store_options
def peek(queue: str, *, limit: int, url: str | None, as_json: bool) -> None:
    """Look at the oldest messages of a queue without taking them."""

    async def question(store: Store) -> list[Peeked]:
        return await looking(store, "message.peek", queue, operator(), lambda: store.peek(queue, limit=limit))

    rows = [message_row(each) for each in ask(url, question)]
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty=f"`{queue}` is empty")


for verb in (pull, ack, retry):
    messages.add_command(verb)


def read_body(raw: bytes, content_type: ContentType) -> object:
    """A body as somebody typed it; wrong usage if it is not what it should be."""
    if content_type is ContentType.BYTES:
        return raw
    try:
        return raw.decode() if content_type is ContentType.TEXT else msgspec.json.decode(raw)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
        hint = "quote it for the shell, or give --content-type text"
        raise click.UsageError(f"BODY is not {content_type.value}: {error} ({hint})") from None
