"""Deliveries: what was to go where, every try, and what came back. Sent again by hand, each is the same delivery."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from conveyor.model.beside import DeliveryNotFoundError
from conveyor.model.ids import IdSource, MessageId, read_id
from conveyor.model.message import Draft
from conveyor.store import records
from conveyor.store.protocol import Store
from conveyor.webhooks.courier import Answer

TRIES_KEPT: Final = 20
ANSWER_CHARS_KEPT: Final = 4_096
HEADERS_KEPT: Final = 30
HEADER_CHARS_KEPT: Final = 500
PREFIX: Final = "msg_"


class DeliveryState(StrEnum):
    """How a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One request, and what came of it."""

    at: int
    attempt: int
    seconds: float
    headers: dict[str, str]
    """As they were sent."""
    status: int | None = None
    """None: there was no answer."""
    answer_headers: dict[str, str] = {}
    answer: str = ""
    """Its beginning."""
    error: str | None = None


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery's row holds as JSON."""

    url: str
    payload: str
    """What is signed and sent, as UTF-8."""
    tries: tuple[Try, ...] = ()
    """The last of them."""
    error: str | None = None
    """Why it failed for good."""
    line: str | None = None
    """Its `key`, of those that go in order."""


class DeliveryInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as people see it."""

    id: str
    """The `webhook-id`."""
    url: str
    event: str
    state: DeliveryState
    payload: str
    """What was signed and sent: JSON."""
    tries: tuple[Try, ...]
    """The last of them."""
    error: str | None
    """Why it failed for good."""


class Carried(msgspec.Struct, frozen=True):
    """The body of a delivery's message."""

    delivery: str


def webhook_id(delivery: MessageId) -> str:
    """How the receiver knows it: the same at every try."""
    return PREFIX + delivery.hex()


def read_webhook_id(text: str) -> MessageId:
    """`DeliveryNotFoundError` for what is none."""
    found = read_id(text.removeprefix(PREFIX))
    if found is None:
        raise DeliveryNotFoundError(text)
    return found


def make_carrier(
    ids: IdSource, queue: str, endpoint: str, delivery: MessageId, line: str | None, *, is_ordered: bool
) -> Draft:
    """The message that carries a delivery. The endpoint is its key, so that one that hangs holds up only itself; where
    deliveries are ordered, its line within the endpoint, if it stands in one."""
    alone = None if is_ordered else endpoint
    body = msgspec.json.encode(Carried(webhook_id(delivery)))
    return Draft(id=ids.new(), queue=queue, body=body, key=alone if line is None else f"{endpoint}:{line}")


def parcel_of(delivery: records.Delivery) -> Parcel:
    return msgspec.json.decode(delivery.body, type=Parcel)


def with_parcel(delivery: records.Delivery, parcel: Parcel, state: DeliveryState) -> records.Delivery:
    return replace(delivery, state=state.value, body=msgspec.json.encode(parcel))


def state_of(delivery: records.Delivery) -> DeliveryState:
    """One whose message ended without a word (its workers died of it, it expired, it was purged) has failed."""
    state = DeliveryState(delivery.state)
    return DeliveryState.FAILED if state is DeliveryState.PENDING and not delivery.is_carried else state


def make_try(at: int, attempt: int, seconds: float, headers: dict[str, str], came: Answer | str) -> Try:
    """Bounded: a receiver does not fill our store."""
    if isinstance(came, str):
        return Try(at=at, attempt=attempt, seconds=seconds, headers=headers, error=came)
    kept = list(came.headers.items())[:HEADERS_KEPT]
    return Try(
        at=at,
        attempt=attempt,
        seconds=seconds,
        headers=headers,
        status=came.status,
        answer_headers={name[:HEADER_CHARS_KEPT]: value[:HEADER_CHARS_KEPT] for name, value in kept},
        answer=came.body[:ANSWER_CHARS_KEPT].decode("utf-8", "replace"),
    )


def show_delivery(delivery: records.Delivery) -> DeliveryInfo:
    parcel = parcel_of(delivery)
    return DeliveryInfo(
        id=webhook_id(delivery.id), url=parcel.url, event=delivery.event, state=state_of(delivery),
        payload=parcel.payload, tries=parcel.tries, error=parcel.error,
    )  # fmt: skip


async def get_delivery(store: Store, name: str) -> records.Delivery:
    """By its `webhook-id`. `DeliveryNotFoundError`."""
    found = await store.get_delivery(read_webhook_id(name))
    if found is None:
        raise DeliveryNotFoundError(name)
    return found


async def resend(store: Store, ids: IdSource, name: str) -> records.Delivery:
    """Deliver it again, with the whole schedule before it, under the same `webhook-id`, and behind what waits in its
    line. `DeliveryNotFoundError`."""
    found = await get_delivery(store, name)
    parcel = replace(parcel_of(found), error=None)
    consumer = (await store.get_queue(found.queue)).consumer
    is_ordered = consumer is not None and consumer.ordered
    message = make_carrier(ids, found.queue, found.endpoint, found.id, parcel.line, is_ordered=is_ordered)
    again = with_parcel(replace(found, message_id=message.id), parcel, DeliveryState.PENDING)
    await store.open_deliveries([(again, message)])
    return await get_delivery(store, name)


def payload_of(event: str, timestamp: str, data: Any) -> dict[str, Any]:
    """The body's shape, as Standard Webhooks has it."""
    return {"type": event, "timestamp": timestamp, "data": data}
