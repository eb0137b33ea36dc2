"""`conveyor dlq`: look at dead letters, mend them, send them back where they came from, throw them away."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click
import msgspec

from conveyor.audit.act import looking
from conveyor.audit.trail import operator
from conveyor.cli.answers import (
    ask,
    chosen_url,
    complete_queue,
    confirm,
    force_option,
    message_row,
    print_facts,
    print_rows,
    queue_argument,
    say,
    store_options,
)
from conveyor.cli.messages import read_body
from conveyor.model.errors import NotFoundError
from conveyor.model.message import PEEK_MESSAGES_MAX, ContentType, Peeked
from conveyor.queue.dead_letter import ANY, DeadLetters, Filter
from conveyor.queue.encoding import encode_body
from conveyor.secrets import sealer_here
from conveyor.store.protocol import Store

_TYPES = tuple(each.value for each in ContentType)
_COLUMNS = ("id", "origin_queue", "reason", "dead_at", "last_error", "body")


@click.group()
def dlq() -> None:
    """Look at dead letters, mend them, and send them back where they came from.

    QUEUE is a dead letter queue, or a queue whose consumer has one.

    \b
    Example:
      conveyor dlq list movie-processing-dlq
      conveyor dlq redrive movie-processing-dlq
    """


@dlq.command("list")
@click.argument("queue", required=False, shell_complete=complete_queue)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@store_options
def list_letters(queue: str | None, *, limit: int, url: str | None, as_json: bool) -> None:
    """Dead letters, oldest first; without QUEUE, the dead letter queues and how many lie in each."""
    if queue is None:
        rows = ask(url, _count)
        columns = ("dead_letter_queue", "messages", "of")
        print_rows(rows, columns=columns, as_json=as_json, empty="no dead letter queues")
        return

    async def question(store: Store) -> tuple[str, list[dict[str, Any]]]:
        letters = await _letters(store, queue)
        found = await _seen(store, letters.queue, lambda: _pages(letters, limit))
        return letters.queue, [_row(each) for each in found]

    name, rows = ask(url, question)
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty=f"no dead letters in `{name}`")


@dlq.command()
@click.argument("queue", shell_complete=complete_queue)
@click.argument("message_id", metavar="ID")
@store_options
def show(queue: str, message_id: str, *, url: str | None, as_json: bool) -> None:
    """One dead letter with all that is known of it. The first signs of its ID will do."""

    async def question(store: Store) -> dict[str, Any]:
        letters = await _letters(store, queue)
        [found] = await _seen(store, letters.queue, lambda: _find(letters, [message_id]))
        return _row(found)

    print_facts(ask(url, question), as_json=as_json)


@dlq.command()
@queue_argument
@click.argument("message_id", metavar="ID")
@click.argument("body", required=False)
@click.option("--content-type", type=click.Choice(_TYPES), default=None, help="What BODY is; else what it was.")
@click.option("--redrive", "is_redriven", is_flag=True, help="And send it back where it came from.")
@store_options
def edit(
    name: str, message_id: str, body: str | None, *, content_type: str | None, is_redriven: bool,
    url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Mend the body of a dead letter. Without BODY your editor opens it; `-` reads it from stdin.

    \b
    Example:
      conveyor dlq edit movie-processing-dlq 019bc3a0
      conveyor dlq edit movie-processing-dlq 019bc3a0 '{"id": 7}' --redrive
    """

    async def look(store: Store) -> tuple[DeadLetters, Peeked]:
        letters = await _letters(store, name)
        [found] = await _seen(store, letters.queue, lambda: _find(letters, [message_id]))
        return letters, found

    letters, was = ask(url, look)
    kind = was.content_type if content_type is None else ContentType(content_type)
    mended = _mended(was, body)
    encoded, _ = encode_body(read_body(mended, kind), kind)

    async def write(store: Store) -> int:
        here = DeadLetters(store, letters.queue, sealer_here(chosen_url(url)))
        now = await here.edit(was, body=encoded, content_type=kind, headers=was.headers)
        return await here.redrive(seqs=[now.seq]) if is_redriven else 0

    went = ask(url, write)
    end = ", and went back to where it came from" if went else ""
    facts = {"queue": letters.queue, "id": was.id.hex(), "bytes": len(encoded), "redriven": went}
    say(f"{was.id.hex()} holds {len(encoded):,} bytes now{end}", facts, as_json=as_json)


def _mended(was: Peeked, body: str | None) -> bytes:
    if body is not None:
        return sys.stdin.buffer.read() if body == "-" else body.encode(errors="surrogateescape")
    if was.content_type is ContentType.BYTES or not sys.stdin.isatty():
        raise click.UsageError("give BODY, or `-` to read it from stdin")
    text = was.body.decode("utf-8", "replace")
    if was.content_type is ContentType.JSON:
        text = msgspec.json.format(text) + "\n"
    edited = click.edit(text, extension=".json" if was.content_type is ContentType.JSON else ".txt")
    if edited is None:
        raise click.UsageError("nothing was changed")
    return edited.encode() if was.content_type is ContentType.JSON else edited.removesuffix("\n").encode()


@dlq.command()
@queue_argument
@click.option("--id", "ids", multiple=True, help="Only this one; may be given again.")
@click.option("--origin", help="Only those that died in this queue.")
@click.option("--reason", help="Only those that died for this reason, as in `timeout`.")
@store_options
def redrive(
    name: str, *, ids: Sequence[str], origin: str | None, reason: str | None, url: str | None, as_json: bool
) -> None:
    """Send dead letters back to the queues they came from, with their attempts at zero.

    \b
    Example:
      conveyor dlq redrive movie-processing-dlq --id 019bc3a0 --id 019bc3a1
      conveyor dlq redrive movie-processing-dlq --reason timeout
    """
    wanted = Filter(origin=origin, reason=reason)
    if ids and wanted != ANY:
        raise click.UsageError("give either --id, or --origin and --reason")

    async def question(store: Store) -> tuple[str, int]:
        letters = await _letters(store, name)
        seqs = [each.seq for each in await _find(letters, ids)] if ids else None
        return letters.queue, await letters.redrive(wanted, seqs=seqs)

    letters, count = ask(url, question)
    say(f"{count:,} messages went back to where they came from", {"queue": letters, "redriven": count}, as_json=as_json)


@dlq.command()
@click.argument("queue", shell_complete=complete_queue)
@force_option
@store_options
def purge(queue: str, *, force: bool, url: str | None, as_json: bool) -> None:
    """Throw away all dead letters of a queue. There is no way back."""

    async def count(store: Store) -> tuple[str, int]:
        letters = await _letters(store, queue)
        return letters.queue, (await store.metrics(letters.queue)).backlog_messages

    name, waiting = ask(url, count)
    confirm(f"throw away {waiting:,} dead letters in `{name}`", force=force)
    gone = ask(url, lambda store: DeadLetters(store, name).purge())
    say(f"{gone:,} dead letters are gone", {"queue": name, "purged": gone}, as_json=as_json)


async def _count(store: Store) -> list[dict[str, Any]]:
    feeders: dict[str, list[str]] = {}
    for info in await store.list_queues():
        if info.consumer is not None and info.consumer.dead_letter_queue is not None:
            feeders.setdefault(info.consumer.dead_letter_queue, []).append(info.name)
    return [
        {"dead_letter_queue": name, "messages": (await store.metrics(name)).backlog_messages, "of": ", ".join(origins)}
        for name, origins in sorted(feeders.items())
    ]


async def _letters(store: Store, name: str) -> DeadLetters:
    """The dead letter queue that is meant: this one, or that of this queue's consumer."""
    present = await store.get_queue(name)
    known = {each.consumer.dead_letter_queue for each in await store.list_queues() if each.consumer is not None}
    behind = None if present.consumer is None else present.consumer.dead_letter_queue
    return DeadLetters(store, name if name in known or behind is None else behind)


async def _seen(store: Store, queue: str, look: Callable[[], Awaitable[list[Peeked]]]) -> list[Peeked]:
    """Letters whose bodies somebody is shown: the audit trail says so."""
    return await looking(store, "dead_letter.peek", queue, operator(), look)


async def _pages(letters: DeadLetters, limit: int | None) -> list[Peeked]:
    found: list[Peeked] = []
    while limit is None or len(found) < limit:
        size = PEEK_MESSAGES_MAX if limit is None else min(PEEK_MESSAGES_MAX, limit - len(found))
        page = await letters.list(limit=size, after_seq=found[-1].seq if found else 0)
        if not page:
            break
        found += page
    return found


async def _find(letters: DeadLetters, ids: Sequence[str]) -> list[Peeked]:
    """The one letter behind each id, or behind its first signs."""
    present = await _pages(letters, None)
    found = []
    for wanted in ids:
        matching = [each for each in present if each.id.hex().startswith(wanted.lower())]
        if len(matching) != 1:
            how = "no message has" if not matching else f"{len(matching)} messages have"
            problem = f"{how} an id that begins with `{wanted}` in `{letters.queue}`"
            raise NotFoundError(problem, hint=f"see `conveyor dlq list {letters.queue}`")
        found += matching
    return found


def _row(message: Peeked) -> dict[str, Any]:
    nothing = dict.fromkeys(("origin_queue", "reason", "last_error", "dead_at"))
    return nothing | message_row(message)
