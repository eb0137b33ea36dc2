"""`conveyor queues`: wrangler's verbs for queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click
from msgspec.structs import replace

from conveyor.cli.answers import (
    DurationType,
    ask,
    complete_queue,
    confirm,
    force_option,
    print_facts,
    print_rows,
    queue_argument,
    say,
    show_dispatch,
    show_duration,
    show_moment,
    store_options,
    tell,
)
from conveyor.cli.consumers import consumer
from conveyor.cli.subscriptions import subscription
from conveyor.model.errors import StoreError
from conveyor.model.message import DELAY_MS_MAX
from conveyor.model.settings import DEDUPE_MS_MAX, RETENTION_MS_MAX, RETENTION_MS_MIN, QueueSettings
from conveyor.queue.admin import Queues
from conveyor.store.protocol import Store
from conveyor.store.records import QueueInfo, QueueMetrics
from conveyor.store.routed import RoutedStore
from conveyor.subscriptions import rename_queue

Command = TypeVar("Command", bound=Callable[..., Any])

PAGE_ROWS: Final = 100
_COLUMNS = ("name", "messages", "leased", "consumer", "paused", "dead_letter_queue")
_DELAY = ("--delivery-delay", "--delivery-delay-secs", "delivery_delay_ms")
_RETENTION = ("--message-retention-period", "--message-retention-period-secs", "retention_ms")


def _settings_options(command: Command) -> Command:
    """What a queue promises its producers; wrangler's spellings are taken too."""
    delay = DurationType(most_ms=DELAY_MS_MAX)
    retention = DurationType(least_ms=RETENTION_MS_MIN, most_ms=RETENTION_MS_MAX)
    window = DurationType(most_ms=DEDUPE_MS_MAX)
    for names, kind, words in (
        (("--max-backlog-bytes",), click.INT, "Backlog in bytes at which sends are refused."),
        (("--max-backlog-messages",), click.INT, "Backlog in messages at which sends are refused."),
        (("--max-message-bytes",), click.INT, "The largest body."),
        (("--dedupe-window", "dedupe_window_ms"), window, "How long a dedupe key counts."),
        (_RETENTION, retention, "How long messages are kept: 60s to 14d."),
        (_DELAY, delay, "Before a message is delivered: 0 to 1d."),
    ):
        command = click.option(*names, type=kind, help=words)(command)
    return command


@click.group()
def queues() -> None:
    """List queues, make and change them, stop and resume their delivery.

    \b
    Example:
      conveyor queues create letters --delivery-delay 5m
      conveyor queues info letters
    """


@queues.command("list")
@click.option("--page", type=click.IntRange(1), default=None, help=f"Only the first {PAGE_ROWS}, the second, ...")
@store_options
def list_queues(*, page: int | None, url: str | None, as_json: bool) -> None:
    """All queues, with their backlog; of several stores also where they lie."""

    async def question(store: Store) -> tuple[list[dict[str, Any]], Sequence[str], StoreError | None]:
        if isinstance(store, RoutedStore):
            return await _rows_of_several(store)
        return await _rows(store), _COLUMNS, None

    rows, columns, problem = ask(url, question)
    if page is not None:
        rows = rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
    print_rows(rows, columns=columns, as_json=as_json, empty="no queues yet; `conveyor queues create NAME` makes one")
    if problem is not None:
        raise problem


async def _rows(store: Store) -> list[dict[str, Any]]:
    known = Queues(store)
    return [_row(info, await known.metrics(info.name)) for info in await known.list()]


async def _rows_of_several(store: RoutedStore) -> tuple[list[dict[str, Any]], Sequence[str], StoreError | None]:
    """What the stores that answer hold, a queue that is routed elsewhere by now included; and why one does not."""
    rows: list[dict[str, Any]] = []
    problem: StoreError | None = None
    for name, part in store.parts.items():
        try:
            found = await _rows(part)
        except StoreError as error:
            problem = error
            continue
        rows += [{**row, "store": name, "routed_to": store.routing.store_of(row["name"])} for row in found]
    has_strays = any(row["store"] != row["routed_to"] for row in rows)
    columns = ("name", "store", *(("routed_to",) if has_strays else ()), *_COLUMNS[1:])
    return sorted(rows, key=lambda row: (row["name"], row["store"])), columns, problem


@queues.command()
@queue_argument
@store_options
def info(name: str, *, url: str | None, as_json: bool) -> None:
    """A queue as it operates now: backlog, settings, consumer."""

    async def question(store: Any) -> dict[str, Any]:
        known = Queues(store)
        return _facts(await known.info(name), await known.metrics(name))

    print_facts(ask(url, question), as_json=as_json)


@queues.command()
@click.argument("name", metavar="QUEUE")
@_settings_options
@store_options
def create(name: str, *, url: str | None, as_json: bool, **settings: int | None) -> None:
    """Make a queue.

    \b
    Example:
      conveyor queues create letters --message-retention-period 7d
    """
    wanted = replace(QueueSettings(), **_given(settings))

    async def question(store: Any) -> dict[str, Any]:
        known = Queues(store)
        return _facts(await known.create(name, wanted), await known.metrics(name))

    facts = tell(url, question)
    if as_json:
        print_facts(facts, as_json=True)
    else:
        click.echo(f"made queue `{name}`; send with `conveyor messages send {name} BODY`")


@queues.command()
@queue_argument
@_settings_options
@store_options
def update(name: str, *, url: str | None, as_json: bool, **settings: int | None) -> None:
    """Change a queue's settings; what is not named stays as it is.

    \b
    Example:
      conveyor queues update letters --delivery-delay 0 --max-backlog-messages 100000
    """
    changes = _given(settings)
    if not changes:
        raise click.UsageError("name a setting to change; see `conveyor queues update --help`")

    async def question(store: Any) -> dict[str, Any]:
        known = Queues(store)
        present = await known.info(name)
        changed = await known.update(name, replace(present.settings, **changes))
        return _facts(changed, await known.metrics(name))

    print_facts(ask(url, question), as_json=as_json)


@queues.command()
@click.argument("old", metavar="OLD", shell_complete=complete_queue)
@click.argument("new", metavar="NEW")
@store_options
def rename(old: str, new: str, *, url: str | None, as_json: bool) -> None:
    """Give a queue another name: messages, leases, consumer and jobs go with it.

    What leads to it (dead letters, alerts, schedules) says the new name from then on. The old name is free: apps that
    still send to it are refused, and one that starts and declares it makes a new, empty queue. So rename between
    two releases of the app: stop it, rename, start the one that says NEW.

    \b
    Example:
      conveyor queues rename letters mail
    """
    info = ask(url, lambda store: rename_queue(store, old, new))
    words = f"queue `{old}` is `{info.name}` now; say so in the apps that send to it and consume it"
    say(words, {"renamed": old, "name": info.name}, as_json=as_json)


@queues.command()
@queue_argument
@force_option
@store_options
def delete(name: str, *, force: bool, url: str | None, as_json: bool) -> None:
    """Delete a queue and all its messages."""
    waiting = ask(url, lambda store: store.metrics(name)).backlog_messages
    confirm(f"delete queue `{name}` with {waiting:,} messages", force=force or not waiting)
    ask(url, lambda store: Queues(store).delete(name))
    say(f"deleted queue `{name}`", {"deleted": name, "messages": waiting}, as_json=as_json)


@queues.command("pause-delivery")
@queue_argument
@store_options
def pause_delivery(name: str, *, url: str | None, as_json: bool) -> None:
    """Deliver nothing until `resume-delivery`; sends go on, and running handlers finish."""
    ask(url, lambda store: Queues(store).pause(name))
    say(f"queue `{name}` delivers nothing now", {"queue": name, "paused": True}, as_json=as_json)


@queues.command("resume-delivery")
@queue_argument
@store_options
def resume_delivery(name: str, *, url: str | None, as_json: bool) -> None:
    """Deliver again."""
    ask(url, lambda store: Queues(store).resume(name))
    say(f"queue `{name}` delivers again", {"queue": name, "paused": False}, as_json=as_json)


@queues.command()
@queue_argument
@force_option
@store_options
def purge(name: str, *, force: bool, url: str | None, as_json: bool) -> None:
    """Throw away all messages of a queue. There is no way back.

    \b
    Example:
      conveyor queues purge letters --force
    """
    waiting = ask(url, lambda store: store.metrics(name)).backlog_messages
    confirm(f"throw away {waiting:,} messages of queue `{name}`", force=force)
    gone = ask(url, lambda store: Queues(store).purge(name))
    say(f"{gone:,} messages are gone", {"queue": name, "purged": gone}, as_json=as_json)


queues.add_command(consumer)
queues.add_command(subscription)


def _given(settings: dict[str, int | None]) -> dict[str, int]:
    return {name: value for name, value in settings.items() if value is not None}


def _row(info: QueueInfo, metrics: QueueMetrics) -> dict[str, Any]:
    return {
        "name": info.name,
        "messages": metrics.backlog_messages,
        "leased": metrics.leased,
        "bytes": metrics.backlog_bytes,
        "oldest_ready_at": show_moment(metrics.oldest_ready_at),
        "consumer": None if info.consumer is None else info.consumer.script or info.consumer.type.value,
        "dead_letter_queue": None if info.consumer is None else info.consumer.dead_letter_queue,
        "paused": info.paused,
    }


def _facts(info: QueueInfo, metrics: QueueMetrics) -> dict[str, Any]:
    settings, consumer = info.settings, info.consumer
    facts = _row(info, metrics) | {
        "delivery_delay": show_duration(settings.delivery_delay_ms),
        "message_retention_period": show_duration(settings.retention_ms),
        "dedupe_window": show_duration(settings.dedupe_window_ms),
        "max_message_bytes": settings.max_message_bytes,
        "max_backlog_messages": settings.max_backlog_messages,
        "max_backlog_bytes": settings.max_backlog_bytes,
        "created_at": show_moment(info.created_at),
        "modified_at": show_moment(info.modified_at),
    }
    if consumer is not None:
        facts |= {
            "max_batch_size": consumer.max_batch_size,
            "max_batch_timeout": show_duration(consumer.max_batch_timeout_ms),
            "max_retries": consumer.max_retries,
            "max_concurrency": consumer.max_concurrency,
            "dispatch": show_dispatch(consumer),
            "timeout": show_duration(consumer.timeout_ms),
            "ordered": consumer.ordered,
            "key_concurrency": consumer.key_concurrency,
            "rate": None if consumer.rate is None else str(consumer.rate),
            "key_rate": None if consumer.key_rate is None else str(consumer.key_rate),
            "fair": consumer.fair,
            "key_weights": ", ".join(f"{key}={weight}" for key, weight in consumer.key_weights.items()) or None,
            "ageing": None if consumer.ageing_ms is None else show_duration(consumer.ageing_ms),
        }
    return facts
