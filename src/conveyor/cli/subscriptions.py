"""`conveyor queues subscription`: wrangler's verbs for which events a queue hears of."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from conveyor.cli.answers import (
    as_remote,
    ask,
    confirm,
    force_option,
    print_facts,
    print_rows,
    queue_argument,
    say,
    show_moment,
    store_options,
)
from conveyor.model.errors import NotFoundError
from conveyor.queue.admin import Queues
from conveyor.store.protocol import Store
from conveyor.subscriptions import EVENTS, UNKNOWN, Subscription, Subscriptions

_COLUMNS = ("id", "name", "source", "events", "enabled")

_queue_argument = partial(queue_argument, name="queue")
id_option = click.option("--id", "subscription", required=True, help="Of the subscription; `list` shows it.")
name_option = click.option("--name", default=None, help="Else that of the queue.")
events_help = "Separated by commas, as in namespace.created,namespace.deleted."


@click.group()
def subscription() -> None:
    """Say of which events a queue hears: each comes as a message.

    A conveyor tells of its own namespaces (kv) and buckets (r2) when they are made or deleted over its API.

    \b
    Example:
      conveyor queues subscription create letters --source kv --events namespace.created,namespace.deleted
      conveyor queues subscription list letters
    """


@subscription.command("list")
@_queue_argument
@store_options
def list_subscriptions(queue: str, *, url: str | None, as_json: bool) -> None:
    """Those of a queue, the oldest first."""
    rows = [_row(each) for each in ask(url, lambda store: _list(store, queue))]
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty=f"`{queue}` hears of nothing")


@subscription.command()
@_queue_argument
@click.option("--source", required=True, type=click.Choice(list(EVENTS)), help="What is to be heard of.")
@click.option("--events", required=True, help=events_help)
@name_option
@click.option("--enabled", type=bool, default=True, show_default=True, help="Whether it is told at once.")
@store_options
def create(
    queue: str, *, source: str, events: str, name: str | None, enabled: bool, url: str | None, as_json: bool
) -> None:
    """Let a queue hear of events; one subscription for each source."""

    async def question(store: Store) -> Subscription:
        given: dict[str, Any] = {"source": {"type": source}, "events": _split(events), "name": name, "enabled": enabled}
        if (remote := as_remote(store)) is not None:
            return await remote.subscriptions.create(queue, **given)
        from conveyor.server.cloudflare.directory import queue_id

        info = await Queues(store).info(queue)
        return await Subscriptions(store).create(queue, queue_id(info), **given)

    made = _row(ask(url, question))
    say(f"`{queue}` hears of {made['events']} of {source} as `{made['id']}`", made, as_json=as_json)


@subscription.command()
@_queue_argument
@id_option
@store_options
def get(queue: str, *, subscription: str, url: str | None, as_json: bool) -> None:
    """One subscription."""
    print_facts(_row(ask(url, lambda store: _find(store, queue, subscription))), as_json=as_json)


@subscription.command()
@_queue_argument
@id_option
@click.option("--events", default=None, help=events_help)
@click.option("--name", default=None, help="Its new name.")
@click.option("--enabled", type=bool, default=None, help="Whether it is told.")
@store_options
def update(
    queue: str, *, subscription: str, events: str | None, name: str | None, enabled: bool | None, url: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Change what is given; the rest stays as it is."""

    async def question(store: Store) -> Subscription:
        await _find(store, queue, subscription)
        given: dict[str, Any] = {"name": name, "enabled": enabled, "events": None if events is None else _split(events)}
        if (remote := as_remote(store)) is not None:
            return await remote.subscriptions.update(queue, subscription, **given)
        return await Subscriptions(store).update(subscription, **given)

    print_facts(_row(ask(url, question)), as_json=as_json)


@subscription.command()
@_queue_argument
@id_option
@force_option
@store_options
def delete(queue: str, *, subscription: str, force: bool, url: str | None, as_json: bool) -> None:
    """Let a queue hear of it no more."""
    confirm(f"delete subscription `{subscription}` of `{queue}`", force=force)

    async def question(store: Store) -> None:
        await _find(store, queue, subscription)
        if (remote := as_remote(store)) is not None:
            await remote.subscriptions.delete(subscription)
        else:
            await Subscriptions(store).delete(subscription)

    ask(url, question)
    say(f"`{queue}` hears of it no more", {"queue": queue, "deleted": subscription}, as_json=as_json)


async def _list(store: Store, queue: str) -> list[Subscription]:
    if (remote := as_remote(store)) is not None:
        return await remote.subscriptions.list(queue)
    await Queues(store).info(queue)
    return await Subscriptions(store).list(queue=queue)


async def _find(store: Store, queue: str, subscription: str) -> Subscription:
    """One of this queue. `NotFoundError`."""
    for each in await _list(store, queue):
        if each.id == subscription:
            return each
    raise NotFoundError(UNKNOWN, hint=f"see `conveyor queues subscription list {queue}`")


def _split(events: str) -> list[str]:
    return [each.strip() for each in events.split(",") if each.strip()]


def _row(each: Subscription) -> dict[str, Any]:
    return {
        "id": each.id,
        "name": each.name,
        "source": each.source["type"],
        "events": ",".join(each.events),
        "enabled": each.enabled,
        "queue": each.queue,
        "created_at": show_moment(each.created_at),
    }
