"""What verbs share: a store that is open for one question, and an answer for people (a table) or programs (JSON)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import difflib
import importlib
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from urllib.parse import urlencode

import click
import msgspec

from conveyor.audit.act import acting
from conveyor.audit.trail import operator
from conveyor.cli.acts import name_act
from conveyor.model.dispatch import Dispatch
from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import (
    ConveyorError,
    InvalidDurationError,
    InvalidSettingError,
    QueueNotFoundError,
    StoreUnsupportedError,
)
from conveyor.model.events import Event, StoreLost
from conveyor.model.message import ContentType, Lease, Peeked
from conveyor.model.settings import ConsumerSettings
from conveyor.store.chosen import choose_stores
from conveyor.store.protocol import Store
from conveyor.store.routing import Routing
from conveyor.store.urls import make_stores

if TYPE_CHECKING:
    from conveyor.remote import RemoteStore

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])
Row: TypeAlias = Mapping[str, Any]

CELL_CHARS_MAX: Final = 60
_DAY_MS: Final = 86_400_000



def _read_place(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """The address of a server stands for the store behind its API."""
    if value is None or not value.startswith(("http://", "https://")):
        return value
    return f"cloudflare://conveyor?{urlencode({'api': value})}"


url_option = click.option(
    "--url",
    "--server",
    "url",
    default=None,
    metavar="URL",
    callback=_read_place,
    help="The store, or a server's http(s):// address (token: CONVEYOR_TOKEN); else CONVEYOR_URL, else"
    " sqlite:///conveyor.db.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
force_option = click.option("--force", "-f", is_flag=True, help="Do not ask.")


def store_options(command: Command) -> Command:
    """`--url` and `--json`, which every verb has."""
    return url_option(json_option(command))


class DurationType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on only
    """`90`, `5m` or `2h`, as milliseconds."""

    name = "duration"

    def __init__(self, *, least_ms: int = 0, most_ms: int = 3_660 * _DAY_MS) -> None:
        self._least_ms = least_ms
        self._most_ms = most_ms

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        name = param.name or "duration" if param is not None else "duration"
        given: Duration = float(value) if str(value).replace(".", "", 1).isdigit() else value
        try:
            return read_duration_ms(given, name=name, least_ms=self._least_ms, most_ms=self._most_ms)
        except InvalidDurationError as error:
            self.fail(str(error), param, ctx)




def chosen_stores(url: str | None) -> Routing:
    """The store that a command line means by `--url`, or all that the settings name. `InvalidSettingError` for one that
    lives in a process."""
    routing = choose_stores(url or None)
    for each in routing.urls.values():
        if each.startswith("memory:"):
            raise InvalidSettingError("CONVEYOR_URL", each, "lives in one process only", hint="use `sqlite:///conveyor.db`")
    return routing


def chosen_url(url: str | None) -> str:
    """The one store that a command line means: of several, the home store."""
    return choose_stores(url or None).url


def ask(url: str | None, question: Callable[[Store], Awaitable[T]]) -> T:
    """Open a store that is there, ask, and close it."""
    routing = chosen_stores(url)
    for each in routing.urls.values():
        check_there(each)
    return asyncio.run(_with_store(make_stores(routing, emit=_tell_of_server), question))


def as_remote(store: Store) -> RemoteStore | None:
    """The store, if it is one behind HTTP; its library is imported only then."""
    if not store.keeps_others:
        return None
    kind: type[RemoteStore] = importlib.import_module("conveyor.remote").RemoteStore
    return store if isinstance(store, kind) else None


def check_there(chosen: str) -> None:
    """`StoreUnsupportedError` if a question would make the store."""
    path = Path(chosen.partition(":///")[2])
    if chosen.startswith("sqlite:///") and not path.exists():
        raise StoreUnsupportedError(
            f"there is no store at `{path}`",
            hint="start an app, or say with `--url` or CONVEYOR_URL where the store is",
        )


def tell(url: str | None, question: Callable[[Store], Awaitable[T]]) -> T:
    """As `ask`; the store is made if need be."""
    return asyncio.run(_with_store(make_stores(chosen_stores(url), emit=_tell_of_server), question))


def _tell_of_server(event: Event) -> None:
    """Why a verb takes its time."""
    if isinstance(event, StoreLost):
        click.echo(f"conveyor: waiting for `{event.store}`: {event.error}", err=True)


async def _with_store(store: Store, question: Callable[[Store], Awaitable[T]]) -> T:
    await store.open()
    try:
        async with acting(store, name_act(), who=operator):
            return await question(store)
    except QueueNotFoundError as error:
        if error.now is None:
            error.hint = await _next_command(store, str(error.facts.get("name", "")))
        raise
    finally:
        await store.close()


async def _next_command(store: Store, name: str) -> str:
    """What whoever named a queue that is not there may have meant."""
    near: list[str] = []
    with contextlib.suppress(ConveyorError):
        near = difflib.get_close_matches(name, [each.name for each in await store.list_queues()], n=1)
    meant = f"did you mean `{near[0]}`? " if near else ""
    return f"{meant}`conveyor queues list` shows those there are, `conveyor queues create {name}` makes it"


def complete_queue(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """For the shell: names of queues that begin so. Whatever goes wrong, there is nothing to propose."""
    try:
        names = ask(ctx.params.get("url"), lambda store: store.list_queues())
    except (ConveyorError, OSError):
        return []
    return [each.name for each in names if each.name.startswith(incomplete)]


def queue_argument(command: Command, name: str = "name") -> Command:
    """QUEUE, which the shell completes."""
    return click.argument(name, metavar="QUEUE", shell_complete=complete_queue)(command)


def confirm(what: str, *, force: bool) -> None:
    """Go on only if somebody says yes; a program must say `--force`."""
    if force:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{what}: give --force to do it without being asked")
    click.confirm(f"{what}?", abort=True)


def print_json(answer: object) -> None:
    """For programs: one document, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(answer, enc_hook=str)).decode())


def print_rows(rows: Sequence[Row], *, columns: Sequence[str], as_json: bool, empty: str) -> None:
    """A table of these columns; JSON has all that the rows hold."""
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo(empty)
    elif sys.stdout.isatty():
        _print_rich(rows, columns)
    else:
        _print_plain(rows, columns)


def print_facts(facts: Row, *, as_json: bool) -> None:
    """One thing, a fact a line."""
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):{width}}  {_shown(value)}")


def say(sentence: str, facts: Row, *, as_json: bool) -> None:
    """What was done: a sentence for people, the facts for programs."""
    if as_json:
        print_json(facts)
    else:
        click.echo(sentence)


def _print_plain(rows: Sequence[Row], columns: Sequence[str]) -> None:
    lines = [[_title(column) for column in columns], *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(rows: Sequence[Row], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(_title(column), justify="right" if isinstance(rows[0][column], int) else "left")
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    Console().print(table)


def _title(column: str) -> str:
    return column.replace("_", " ").upper()


def _cell(value: object) -> str:
    text = _shown(value)
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 3] + "..."


def _shown(value: object) -> str:
    """No value, whoever sent it, moves the cursor or starts a line of its own."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else str(value)
    if not isinstance(value, (str, int, float)):
        text = msgspec.json.encode(value, enc_hook=str).decode()
    return show_text(text)


def show_text(text: str) -> str:
    """Signs that move a cursor are spelt out."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def show_moment(moment_ms: int | None) -> str | None:
    """`2026-01-01T12:00:00Z`, or None."""
    if moment_ms is None:
        return None
    return datetime.fromtimestamp(moment_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def show_duration(milliseconds: int) -> str:
    """`90s`, `5m`, `4d`: in the largest unit that leaves a whole number."""
    for unit, size in (("d", _DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds >= size and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return "0s" if milliseconds == 0 else f"{milliseconds}ms"


def show_dispatch(settings: ConsumerSettings) -> str:
    """As in `cron: 5 at * * * * *`."""
    if settings.dispatch is Dispatch.CRON:
        return f"{settings.dispatch}: {settings.dispatch_messages} at {settings.dispatch_cron}"
    return str(settings.dispatch)


def show_body(message: Peeked | Lease) -> object:
    """JSON as what it says, text as text, bytes in base64."""
    if message.content_type is ContentType.JSON:
        try:
            return msgspec.json.decode(message.body)
        except (msgspec.MsgspecError, RecursionError):
            return message.body.decode("utf-8", "replace")
    if message.content_type is ContentType.TEXT:
        return message.body.decode("utf-8", "replace")
    return base64.b64encode(message.body).decode()


def message_row(message: Peeked) -> dict[str, Any]:
    """A message as every verb shows it."""
    dead = message.dead
    row = {
        "id": message.id.hex(),
        "queue": message.queue,
        "body": show_body(message),
        "content_type": message.content_type.value,
        "attempts": message.attempts,
        "state": "leased" if message.leased else "ready",
        "sent_at": show_moment(message.sent_at),
        "ready_at": show_moment(message.ready_at),
        "priority": message.priority,
        "key": message.key,
        "headers": None if message.headers is None else msgspec.json.decode(message.headers),
    }
    if dead is not None:
        row |= {
            "origin_queue": dead.origin_queue,
            "reason": dead.reason,
            "last_error": dead.last_error,
            "dead_at": show_moment(dead.dead_at),
        }
    return row
