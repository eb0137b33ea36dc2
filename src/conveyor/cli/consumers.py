"""`conveyor queues consumer`: wrangler's verbs for who takes a queue's messages, and on what terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from msgspec.structs import replace

from conveyor.cli.answers import (
    DurationType,
    ask,
    print_facts,
    print_rows,
    queue_argument,
    say,
    show_dispatch,
    show_duration,
    store_options,
)
from conveyor.model.dispatch import TICK_MESSAGES_MAX, Dispatch
from conveyor.model.errors import ConsumerConflictError, NotFoundError
from conveyor.model.message import DELAY_MS_MAX, PULL_MS_MAX
from conveyor.model.settings import BATCH_TIMEOUT_MS_MAX, ConsumerSettings, ConsumerType, check_name
from conveyor.model.verdict import Backoff
from conveyor.queue.admin import Queues
from conveyor.store.protocol import Store

Command = TypeVar("Command", bound=Callable[..., Any])

_COLUMNS = ("type", "script", "batch_size", "max_retries", "retry_delay", "dead_letter_queue")
_RETRY_DELAY = ("--retry-delay-secs", "--retry-delay", "retry_delay_ms")
_VISIBILITY = ("--visibility-timeout-secs", "--visibility-timeout", "visibility_timeout_ms")
_HIDDEN = DurationType(most_ms=PULL_MS_MAX)


def _shared_options(command: Command) -> Command:
    """Terms of both types; wrangler's spellings."""
    for names, kind, words in (
        (_RETRY_DELAY, DurationType(most_ms=DELAY_MS_MAX), "Before the next attempt, as in 90 or 5m."),
        (("--dead-letter-queue",), click.STRING, "Where messages go that fail for good; without it they are deleted."),
        (("--message-retries", "max_retries"), click.IntRange(0, 100), "Attempts after the first; 3 is usual."),
        (("--batch-size", "max_batch_size"), click.IntRange(1, 100), "Messages at a time, at most; 10 is usual."),
    ):
        command = click.option(*names, type=kind, help=words)(command)
    return command


def _worker_options(command: Command) -> Command:
    timeout = DurationType(most_ms=BATCH_TIMEOUT_MS_MAX)
    limit = click.option("--max-concurrency", type=click.IntRange(1, 10_000), help="Calls at once, in all processes.")
    for names, kind, words in (
        (("--dispatch-messages",), click.IntRange(1, TICK_MESSAGES_MAX), "With cron: messages at a tick; 1 is usual."),
        (("--dispatch-cron",), click.STRING, "With cron: when it ticks, in UTC; every minute is usual."),
        (("--dispatch",), click.Choice([str(each) for each in Dispatch]), "What sets it going; queue is usual."),
    ):
        command = click.option(*names, type=kind, help=words)(command)
    command = click.option(
        "--batch-timeout", "max_batch_timeout_ms", type=timeout, help="How long a batch waits to be full; 5 s."
    )(limit(command))
    return _shared_options(command)


def _http_options(command: Command) -> Command:
    words = "How long a pulled message is hidden from others; 30 s is usual."
    return _shared_options(click.option(*_VISIBILITY, type=_HIDDEN, help=words)(command))


@click.group()
def consumer() -> None:
    """Say who takes the messages of a queue: an app's workers, or whoever pulls over HTTP. A queue has one consumer.

    Apps register themselves when they start (`@app.consumer`); this is for terms that an operator sets, and for queues
    that are pulled.

    \b
    Example:
      conveyor queues consumer http add letters --visibility-timeout-secs 60
      conveyor queues consumer list letters
    """


@consumer.group()
def worker() -> None:
    """Consumers that are an app's workers.

    \b
    Example:
      conveyor queues consumer worker add letters post-office --batch-size 20
    """


@consumer.group()
def http() -> None:
    """Consumers that pull over HTTP: in any language, or another conveyor.

    \b
    Example:
      conveyor queues consumer http add letters
      conveyor messages pull letters
    """


def add(name: str, script: str, *, url: str | None, as_json: bool, **terms: Any) -> None:
    """Give a queue's messages to the workers of an app: SCRIPT is its name, as in `Conveyor("post-office")`.

    \b
    Example:
      conveyor queues consumer add letters post-office --dead-letter-queue letters-dlq
    """
    check_name("script", script)
    settings = _settings(ConsumerType.WORKER, script, terms)
    facts = ask(url, lambda store: _put(store, name, settings))
    say(f"workers of `{script}` take the messages of `{name}`: run `conveyor work MODULE:APP`", facts, as_json=as_json)


def remove(name: str, script: str, *, url: str | None, as_json: bool) -> None:
    """Take a queue's messages away from the workers of an app. They stay in the queue.

    \b
    Example:
      conveyor queues consumer remove letters post-office
    """
    ask(url, lambda store: _remove(store, name, ConsumerType.WORKER, script))
    facts = {"queue": name, "removed": script}
    say(f"workers of `{script}` take nothing from `{name}` any more", facts, as_json=as_json)


_ADD = click.command()(queue_argument(click.argument("script")(_worker_options(store_options(add)))))
_REMOVE = click.command()(queue_argument(click.argument("script")(store_options(remove))))
for group in (consumer, worker):  # wrangler knows both spellings
    group.add_command(_ADD)
    group.add_command(_REMOVE)


@http.command("add")
@queue_argument
@_http_options
@store_options
def http_add(name: str, *, url: str | None, as_json: bool, **terms: Any) -> None:
    """Let a queue's messages be pulled over HTTP.

    \b
    Example:
      conveyor queues consumer http add letters --message-retries 5 --dead-letter-queue letters-dlq
    """
    facts = ask(url, lambda store: _put(store, name, _settings(ConsumerType.HTTP_PULL, "", terms)))
    say(f"`{name}` can be pulled: try `conveyor messages pull {name}`", facts, as_json=as_json)


@http.command("remove")
@queue_argument
@store_options
def http_remove(name: str, *, url: str | None, as_json: bool) -> None:
    """Let nobody pull a queue any more. Its messages stay."""
    ask(url, lambda store: _remove(store, name, ConsumerType.HTTP_PULL, ""))
    say(f"`{name}` cannot be pulled any more", {"queue": name, "removed": "http_pull"}, as_json=as_json)


def _make_list(group: click.Group, kind: ConsumerType | None) -> None:
    @group.command("list", help="The consumer of a queue, if it has one" + (f" of type `{kind}`." if kind else "."))
    @queue_argument
    @store_options
    def list_consumers(name: str, *, url: str | None, as_json: bool) -> None:
        async def question(store: Store) -> list[dict[str, Any]]:
            present = (await Queues(store).info(name)).consumer
            return [] if present is None or kind not in (None, present.type) else [_row(name, present)]

        empty = f"`{name}` has no consumer; `conveyor queues consumer {kind or ''}{' ' if kind else ''}add` makes one"
        empty = empty.replace("http_pull", "http")
        print_rows(ask(url, question), columns=_COLUMNS, as_json=as_json, empty=empty)


_make_list(consumer, None)
_make_list(worker, ConsumerType.WORKER)
_make_list(http, ConsumerType.HTTP_PULL)


@consumer.command()
@queue_argument
@_worker_options
@click.option(*_VISIBILITY, type=_HIDDEN, help="How long a pulled message is hidden from others.")
@store_options
def update(name: str, *, url: str | None, as_json: bool, **terms: Any) -> None:
    """Change the terms of a queue's consumer; what is not named stays as it is. Workers follow within seconds, and the
    change holds until the app declares something else.

    \b
    Example:
      conveyor queues consumer update letters --max-concurrency 4
    """
    if not _given(terms):
        raise click.UsageError("name a setting to change; see `conveyor queues consumer update --help`")

    async def question(store: Store) -> dict[str, Any]:
        known = Queues(store)
        info = await known.info(name)
        if info.consumer is None:
            raise _none(name, "consumer", "add")
        changed = await known.put_consumer(name, replace(info.consumer, **_given(terms)), version=info.version)
        return _row(name, changed.consumer or info.consumer)

    print_facts(ask(url, question), as_json=as_json)


def _settings(kind: ConsumerType, script: str, terms: dict[str, Any]) -> ConsumerSettings:
    return replace(ConsumerSettings(type=kind, script=script), **_given(terms))


def _given(terms: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in terms.items() if value is not None}
    if (dispatch := given.pop("dispatch", None)) is not None:
        given["dispatch"] = Dispatch(dispatch)
    if (delay_ms := given.pop("retry_delay_ms", None)) is not None:
        given["retry_delay"] = Backoff(base_ms=delay_ms)
    return given


async def _put(store: Store, name: str, settings: ConsumerSettings) -> dict[str, Any]:
    known = Queues(store)
    info = await known.info(name)
    if info.consumer is not None:
        error = ConsumerConflictError(name, _whose(info.consumer), _whose(settings))
        verb = "http remove" if info.consumer.type is ConsumerType.HTTP_PULL else "remove"
        script = f" {info.consumer.script}" if info.consumer.script else ""
        verbs = "conveyor queues consumer"
        error.hint = f"`{verbs} {verb} {name}{script}` first, or change its terms: `{verbs} update {name}`"
        raise error
    changed = await known.put_consumer(name, settings, version=info.version)
    return _row(name, changed.consumer or settings)


async def _remove(store: Store, name: str, kind: ConsumerType, script: str) -> None:
    known = Queues(store)
    info = await known.info(name)
    present = info.consumer
    if present is None or present.type is not kind or present.script != script:
        what = "http_pull consumer" if kind is ConsumerType.HTTP_PULL else f"worker consumer `{script}`"
        raise _none(name, what, "list")
    await known.put_consumer(name, None, version=info.version)


def _none(name: str, what: str, verb: str) -> NotFoundError:
    return NotFoundError(f"no {what} exists for queue `{name}`", hint=f"see `conveyor queues consumer {verb} {name}`")


def _whose(settings: ConsumerSettings) -> str:
    return settings.script or settings.type.value


def _row(name: str, settings: ConsumerSettings) -> dict[str, Any]:
    row: dict[str, Any] = {
        "queue": name,
        "type": settings.type.value,
        "script": settings.script or None,
        "batch_size": settings.max_batch_size,
        "max_retries": settings.max_retries,
        "retry_delay": show_duration(settings.retry_delay.base_ms),
        "dead_letter_queue": settings.dead_letter_queue,
    }
    if settings.type is ConsumerType.HTTP_PULL:
        return row | {"visibility_timeout": show_duration(settings.visibility_timeout_ms)}
    return row | {
        "batch_timeout": show_duration(settings.max_batch_timeout_ms),
        "max_concurrency": settings.max_concurrency,
        "dispatch": show_dispatch(settings),
    }
