"""`conveyor webhooks`: endpoints, their secrets, and what was delivered to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import click
import msgspec

from conveyor.audit.act import looking
from conveyor.audit.trail import operator
from conveyor.cli.answers import DurationType, ask, chosen_url, print_facts, print_rows, say, show_moment, store_options
from conveyor.model.ids import IdSource
from conveyor.secrets import Keys
from conveyor.store import records
from conveyor.store.chosen import choose_files
from conveyor.store.protocol import Store
from conveyor.webhooks.endpoints import OVERLAP_MS_MAX, Endpoint, Endpoints
from conveyor.webhooks.log import DeliveryState, get_delivery, parcel_of, state_of, webhook_id
from conveyor.webhooks.log import resend as deliver_again
from conveyor.webhooks.targets import Policy

T = TypeVar("T")

_COLUMNS: Final = ("id", "url", "events", "failing_since", "disabled", "app")
_DELIVERY_COLUMNS: Final = ("id", "event", "state", "tries", "status", "error", "url")
_limit = click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="At most so many.")


@click.group()
def webhooks() -> None:
    """Look after endpoints, their secrets and their deliveries.

    \b
    Example:
      conveyor webhooks list
      conveyor webhooks deliveries --state failed
      conveyor webhooks resend msg_019b796dd600000000019c76a49ccfab
    """


@webhooks.command("list")
@_limit
@store_options
def list_endpoints(*, limit: int, url: str | None, as_json: bool) -> None:
    """Endpoints: what they are told, and how they are."""
    found = _ask(url, lambda endpoints: endpoints.page(limit=limit))
    empty = "no endpoints yet; make one: `conveyor webhooks add APP URL`"
    print_rows([_row(each) for each in found], columns=_COLUMNS, as_json=as_json, empty=empty)


@webhooks.command()
@click.argument("app")
@click.argument("target", metavar="URL")
@click.option("--event", "events", multiple=True, help="Told of events of this pattern, as in `order.*`; repeatable.")
@click.option("--description", default="", help="For people.")
@click.option("--plain-http", is_flag=True, help="Without TLS, or on another port than 443, if the app allows it, too.")
@store_options
def add(
    app: str, target: str, *, events: tuple[str, ...], description: str, plain_http: bool, url: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Make an endpoint of an app, and show its secret once.

    \b
    Example:
      conveyor webhooks add shop https://example.com/hooks --event "order.*"
    """
    policy = Policy(http=True, ports=None) if plain_http else Policy()

    async def question(endpoints: Endpoints) -> tuple[Endpoint, str]:
        await endpoints.check_room()
        made = await endpoints.add(app, target, policy=policy, events=events or ("*",), description=description)
        return made, endpoints.secrets_of(made)[0]

    made, secret_text = _ask(url, question)
    facts = _row(made) | {"secret": secret_text}
    say(f"`{made.id}` is told of {' '.join(made.events)}\n\n{secret_text}\n", facts, as_json=as_json)


@webhooks.command()
@click.argument("endpoint")
@store_options
def endpoint(endpoint: str, *, url: str | None, as_json: bool) -> None:
    """An endpoint as it stands."""
    print_facts(_row(_ask(url, lambda endpoints: endpoints.get(endpoint))), as_json=as_json)


@webhooks.command()
@click.argument("endpoint")
@store_options
def secret(endpoint: str, *, url: str | None, as_json: bool) -> None:
    """Show what the receiver verifies with."""

    async def question(endpoints: Endpoints) -> str:
        return endpoints.secrets_of(await endpoints.get(endpoint))[0]

    found = _ask(url, question)
    say(found, {"endpoint": endpoint, "secret": found}, as_json=as_json)


@webhooks.command()
@click.argument("endpoint")
@click.option("--overlap", "overlap_ms", type=DurationType(most_ms=OVERLAP_MS_MAX), default="1d", show_default=True,
              help="How long the former secret signs beside the new one.")  # fmt: skip
@store_options
def rotate(endpoint: str, *, overlap_ms: int, url: str | None, as_json: bool) -> None:
    """Make a new secret, and show it."""

    async def question(endpoints: Endpoints) -> str:
        return endpoints.secrets_of(await endpoints.rotate(endpoint, overlap_ms=overlap_ms))[0]

    found = _ask(url, question)
    say(found, {"endpoint": endpoint, "secret": found}, as_json=as_json)


@webhooks.command()
@click.argument("endpoint")
@store_options
def enable(endpoint: str, *, url: str | None, as_json: bool) -> None:
    """Call it again."""
    found = _ask(url, lambda endpoints: endpoints.enable(endpoint))
    say(f"`{endpoint}` is called again", _row(found), as_json=as_json)


@webhooks.command()
@click.argument("endpoint")
@store_options
def disable(endpoint: str, *, url: str | None, as_json: bool) -> None:
    """Call it no more, until it is enabled."""
    found = _ask(url, lambda endpoints: endpoints.disable(endpoint, "by hand"))
    say(f"`{endpoint}` is called no more", _row(found), as_json=as_json)


@webhooks.command()
@click.argument("endpoint")
@store_options
def remove(endpoint: str, *, url: str | None, as_json: bool) -> None:
    """Tell it nothing more; what is still to be delivered there fails."""
    _ask(url, lambda endpoints: endpoints.remove(endpoint))
    say(f"`{endpoint}` is gone", {"endpoint": endpoint, "removed": True}, as_json=as_json)


@webhooks.command()
@click.option("--endpoint", default=None, help="Only those to this one.")
@click.option("--state", type=click.Choice([each.value for each in DeliveryState]), help="Only those that stand so.")
@_limit
@store_options
def deliveries(*, endpoint: str | None, state: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """Deliveries, the newest first."""
    found = ask(url, lambda store: store.list_deliveries(endpoint=endpoint, state=state, limit=limit))
    rows = [_delivery_row(each) for each in found]
    print_rows(rows, columns=_DELIVERY_COLUMNS, as_json=as_json, empty="no such deliveries")


@webhooks.command()
@click.argument("delivery")
@store_options
def show(delivery: str, *, url: str | None, as_json: bool) -> None:
    """A delivery: what was sent, every try, and what came back."""

    async def question(store: Store) -> records.Delivery:
        return await looking(store, "webhook.peek", delivery, operator(), lambda: get_delivery(store, delivery))

    found = ask(url, question)
    parcel = parcel_of(found)
    tries = [msgspec.to_builtins(each) | {"at": show_moment(each.at)} for each in parcel.tries]
    facts = _delivery_row(found) | {"payload": msgspec.json.decode(parcel.payload), "made": tries}
    print_facts(facts, as_json=as_json)


@webhooks.command()
@click.argument("delivery")
@store_options
def resend(delivery: str, *, url: str | None, as_json: bool) -> None:
    """Deliver it again, under the same `webhook-id`."""
    found = ask(url, lambda store: deliver_again(store, IdSource(store.clock), delivery))
    say(f"`{delivery}` goes out again", _delivery_row(found), as_json=as_json)


def _ask(url: str | None, question: Callable[[Endpoints], Awaitable[T]]) -> T:
    keys = Keys(lambda: choose_files(chosen_url(url)))

    async def asked(store: Store) -> T:
        return await question(Endpoints(store, keys))

    return ask(url, asked)


def _row(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": " ".join(endpoint.events),
        "failing_since": show_moment(endpoint.failing_since),
        "disabled": endpoint.disabled,
        "disabled_at": show_moment(endpoint.disabled_at),
        "app": endpoint.app,
        "description": endpoint.description,
        "created_at": show_moment(endpoint.created_at),
    }


def _delivery_row(delivery: records.Delivery) -> dict[str, Any]:
    parcel = parcel_of(delivery)
    last = parcel.tries[-1] if parcel.tries else None
    return {
        "id": webhook_id(delivery.id),
        "event": delivery.event,
        "state": state_of(delivery).value,
        "tries": len(parcel.tries),
        "status": None if last is None else last.status,
        "error": parcel.error or (None if last is None else last.error),
        "url": parcel.url,
        "endpoint": delivery.endpoint,
        "created_at": show_moment(delivery.created_at),
        "modified_at": show_moment(delivery.modified_at),
    }
