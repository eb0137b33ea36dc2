"""Webhooks: endpoints, their secrets, and the log of deliveries. What a receiver answered is for admins."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from conveyor.model.ids import IdSource
from conveyor.secrets import Keys
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import cut_page, read_cursor
from conveyor.server.rest.shapes import Asked, Moment, Page, PageAsked, Told, maybe_moment, moment
from conveyor.server.rights import Right
from conveyor.store import records
from conveyor.store.chosen import choose_files, choose_stores
from conveyor.webhooks.endpoints import KIND, OVERLAP_MS, OVERLAP_MS_MAX, Endpoint, Endpoints
from conveyor.webhooks.log import (
    DeliveryState,
    get_delivery,
    parcel_of,
    read_webhook_id,
    resend,
    state_of,
    webhook_id,
)
from conveyor.webhooks.targets import Policy


class EndpointShown(Told, frozen=True, kw_only=True):
    """A URL of somebody else's, and what it is told."""

    id: str
    app: str
    url: str
    events: list[str]
    description: str
    created_at: Moment
    failing_since: Moment | None
    disabled: str | None
    """Why it is called no more."""
    disabled_at: Moment | None


_Pattern: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]


class NewEndpoint(Asked, frozen=True, kw_only=True):
    """An endpoint to be made."""

    app: Annotated[str, Meta(min_length=1, max_length=54)]
    """Whose workers call it."""
    url: Annotated[str, Meta(min_length=1, max_length=2_048)]
    events: Annotated[tuple[_Pattern, ...], Meta(min_length=1, max_length=100)] = ("*",)
    """Patterns, as in `order.*`."""
    description: Annotated[str, Meta(max_length=256)] = ""


class EndpointMade(Told, frozen=True, kw_only=True):
    """An endpoint, and what its receiver verifies with."""

    endpoint: EndpointShown
    secret: str


class RotateAsked(Asked, frozen=True, kw_only=True):
    """A new secret."""

    overlap_ms: Annotated[int, Meta(ge=0, le=OVERLAP_MS_MAX)] = OVERLAP_MS
    """How long the former one signs beside it."""


class SecretShown(Told, frozen=True, kw_only=True):
    """What the receiver verifies with."""

    secret: str


class DeliveriesAsked(PageAsked, frozen=True, kw_only=True):
    """Which deliveries, and which part of their list."""

    endpoint: Annotated[str, Meta(max_length=24)] | None = None
    state: DeliveryState | None = None


class DeliveryShown(Told, frozen=True, kw_only=True):
    """Something that went, or is to go, to an endpoint."""

    id: str
    """The `webhook-id`."""
    endpoint: str
    url: str
    event: str
    state: DeliveryState
    created_at: Moment
    modified_at: Moment
    error: str | None
    tries: int


class TryShown(Told, frozen=True, kw_only=True):
    """One request, and what came of it."""

    at: Moment
    attempt: int
    seconds: float
    headers: dict[str, str]
    status: int | None
    error: str | None
    answer_headers: dict[str, str] | None
    """Null for those who are no admins, as is the answer."""
    answer: str | None


class DeliveryDetail(Told, frozen=True, kw_only=True):
    """A delivery with what was sent, and its last tries."""

    delivery: DeliveryShown
    payload: Any
    tries: list[TryShown]


async def list_endpoints(call: Call) -> Answer:
    """Endpoints by id."""
    asked = read_query(call, PageAsked)
    found = await _endpoints(call).page(limit=asked.limit + 1, after=read_cursor(KIND, asked.cursor, str))
    page = cut_page(KIND, found, asked.limit, lambda each: each.id)
    return Answer.json(Page(items=[_show(each) for each in page.items], next_cursor=page.next_cursor))


async def add_endpoint(call: Call) -> Answer:
    """Make an endpoint; its secret is in this answer."""
    asked = call.decode(NewEndpoint)
    endpoints = _endpoints(call)
    await endpoints.check_room()
    made = await endpoints.add(
        asked.app, asked.url, policy=_policy(call, asked.app), events=asked.events, description=asked.description
    )
    return Answer.json(EndpointMade(endpoint=_show(made), secret=endpoints.secrets_of(made)[0]), 201)


async def get_endpoint(call: Call) -> Answer:
    """An endpoint as it stands."""
    return Answer.json(_show(await _endpoints(call).get(call.path["endpoint"])))


async def remove_endpoint(call: Call) -> Answer:
    """Tell it nothing more; what is still to be delivered there fails."""
    await _endpoints(call).remove(call.path["endpoint"])
    return Answer(204)


async def enable_endpoint(call: Call) -> Answer:
    """Call it again."""
    return Answer.json(_show(await _endpoints(call).enable(call.path["endpoint"])))


async def disable_endpoint(call: Call) -> Answer:
    """Call it no more, until it is enabled."""
    return Answer.json(_show(await _endpoints(call).disable(call.path["endpoint"], "by hand")))


async def show_secret(call: Call) -> Answer:
    """What the receiver verifies with."""
    endpoints = _endpoints(call)
    found = await endpoints.get(call.path["endpoint"])
    return Answer.json(SecretShown(secret=endpoints.secrets_of(found)[0]))


async def rotate_secret(call: Call) -> Answer:
    """Make a new secret; the former one signs beside it for a while."""
    asked = call.decode(RotateAsked) if call.body else RotateAsked()
    endpoints = _endpoints(call)
    changed = await endpoints.rotate(call.path["endpoint"], overlap_ms=asked.overlap_ms)
    return Answer.json(SecretShown(secret=endpoints.secrets_of(changed)[0]))


async def list_deliveries(call: Call) -> Answer:
    """Deliveries, the newest first."""
    asked = read_query(call, DeliveriesAsked)
    of = f"deliveries {asked.endpoint} {asked.state}"
    cursor = read_cursor(of, asked.cursor, str)
    found = await call.store.list_deliveries(
        endpoint=asked.endpoint,
        state=None if asked.state is None else asked.state.value,
        limit=asked.limit + 1,
        before=None if cursor is None else read_webhook_id(cursor),
    )
    page = cut_page(of, found, asked.limit, lambda each: webhook_id(each.id))
    return Answer.json(Page(items=[_show_delivery(each) for each in page.items], next_cursor=page.next_cursor))


async def show_delivery(call: Call) -> Answer:
    """A delivery with what was sent, and its last tries."""
    found = await get_delivery(call.store, call.path["delivery"])
    parcel = parcel_of(found)
    is_admin = call.caller.may(Right.ADMIN)
    tries = [
        TryShown(
            at=moment(each.at),
            attempt=each.attempt,
            seconds=each.seconds,
            headers=each.headers,
            status=each.status,
            error=each.error,
            answer_headers=each.answer_headers if is_admin else None,
            answer=each.answer if is_admin else None,
        )
        for each in parcel.tries
    ]
    payload = msgspec.json.decode(parcel.payload)
    return Answer.json(DeliveryDetail(delivery=_show_delivery(found), payload=payload, tries=tries))


async def resend_delivery(call: Call) -> Answer:
    """Deliver it again, under the same `webhook-id`."""
    ids = IdSource(call.store.clock)
    return Answer.json(_show_delivery(await resend(call.store, ids, call.path["delivery"])), 202)


def _policy(call: Call, app: str) -> Policy:
    """That of the app which is served; of another one the usual."""
    served = call.app
    return served.webhooks.policy if served is not None and served.name == app else Policy()


def _endpoints(call: Call) -> Endpoints:
    folder = call.app.bindings.folder if call.app is not None else lambda: choose_files(choose_stores().url)
    return Endpoints(call.store, Keys(folder))


def _show(endpoint: Endpoint) -> EndpointShown:
    return EndpointShown(
        id=endpoint.id,
        app=endpoint.app,
        url=endpoint.url,
        events=list(endpoint.events),
        description=endpoint.description,
        created_at=moment(endpoint.created_at),
        failing_since=maybe_moment(endpoint.failing_since),
        disabled=endpoint.disabled,
        disabled_at=maybe_moment(endpoint.disabled_at),
    )


def _show_delivery(delivery: records.Delivery) -> DeliveryShown:
    parcel = parcel_of(delivery)
    return DeliveryShown(
        id=webhook_id(delivery.id),
        endpoint=delivery.endpoint,
        url=parcel.url,
        event=delivery.event,
        state=state_of(delivery),
        created_at=moment(delivery.created_at),
        modified_at=moment(delivery.modified_at),
        error=parcel.error,
        tries=len(parcel.tries),
    )


_AT: Final = "/webhooks/endpoints/{endpoint}"
OPERATIONS: Final = (
    Operation(
        method="GET", path="/webhooks/endpoints", right=Right.READ, scope="store", handle=list_endpoints,
        query=PageAsked, gives=Page[EndpointShown],
    ),
    Operation(
        method="POST", path="/webhooks/endpoints", right=Right.ADMIN, scope="store", handle=add_endpoint,
        action="webhook.add", takes=NewEndpoint, gives=EndpointMade, status=201,
    ),
    Operation(method="GET", path=_AT, right=Right.READ, scope="store", handle=get_endpoint, gives=EndpointShown),
    Operation(
        method="DELETE", path=_AT, right=Right.MANAGE, scope="store", handle=remove_endpoint, action="webhook.remove",
    ),
    Operation(
        method="POST", path=f"{_AT}/enable", right=Right.MANAGE, scope="store", handle=enable_endpoint,
        action="webhook.enable", gives=EndpointShown,
    ),
    Operation(
        method="POST", path=f"{_AT}/disable", right=Right.MANAGE, scope="store", handle=disable_endpoint,
        action="webhook.disable", gives=EndpointShown,
    ),
    Operation(
        method="GET", path=f"{_AT}/secret", right=Right.ADMIN, scope="store", handle=show_secret, gives=SecretShown,
    ),
    Operation(
        method="POST", path=f"{_AT}/rotate", right=Right.ADMIN, scope="store", handle=rotate_secret,
        action="webhook.rotate", takes=RotateAsked, may_be_empty=True, gives=SecretShown,
    ),
    Operation(
        method="GET", path="/webhooks/deliveries", right=Right.READ, scope="store", handle=list_deliveries,
        query=DeliveriesAsked, gives=Page[DeliveryShown],
    ),
    Operation(
        method="GET", path="/webhooks/deliveries/{delivery}", right=Right.READ, scope="store", handle=show_delivery,
        action="webhook.peek", gives=DeliveryDetail,
    ),
    Operation(
        method="POST", path="/webhooks/deliveries/{delivery}/resend", right=Right.MANAGE, scope="store",
        handle=resend_delivery, action="webhook.resend", gives=DeliveryShown, status=202,
    ),
)  # fmt: skip
