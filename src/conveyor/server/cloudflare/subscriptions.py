"""Event subscriptions: kept as they are given; what happens to our own namespaces is sent to the queues that asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from conveyor.model.errors import (
    ConflictError,
    InvalidSettingError,
    NotFoundError,
    QueueFullError,
    VersionConflictError,
)
from conveyor.model.ids import IdSource
from conveyor.model.message import Draft
from conveyor.server.cloudflare.dialect import QUEUE_NOT_FOUND, Refusal, moment, succeed
from conveyor.server.cloudflare.directory import Directory, Known
from conveyor.server.cloudflare.paging import read_page
from conveyor.server.endpoint import Answer, Call, Endpoint, Handle
from conveyor.server.rights import Right
from conveyor.subscriptions import UNKNOWN, Subscription, Subscriptions

PER_PAGE: Final = 20
_ORDERS: Final[dict[str, Callable[[Subscription], Any]]] = {
    "created_at": lambda each: each.created_at,
    "name": lambda each: each.name,
    "enabled": lambda each: each.enabled,
    "source": lambda each: each.source.get("type", ""),
}


class Destination(msgspec.Struct, forbid_unknown_fields=True):
    queue_id: str
    type: str = "queues.queue"


class SubscriptionBody(msgspec.Struct, forbid_unknown_fields=True):
    """Of a POST; a PATCH says part of it."""

    name: str | None = None
    enabled: bool | None = None
    source: dict[str, str] | None = None
    destination: Destination | None = None
    events: list[str] | None = None


class SubscriptionDesk:
    """The endpoints of subscriptions, and the sending of events."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._ids: IdSource | None = None

    def endpoints(self) -> list[Endpoint]:
        all_, one = "/event_subscriptions/subscriptions", "/event_subscriptions/subscriptions/{subscription}"
        return [
            _endpoint("GET", all_, Right.READ, self.list),
            _endpoint("POST", all_, Right.MANAGE, self.create, "subscription.create"),
            _endpoint("GET", one, Right.READ, self.show),
            _endpoint("PATCH", one, Right.MANAGE, self.update, "subscription.update"),
            _endpoint("DELETE", one, Right.MANAGE, self.delete, "subscription.delete"),
        ]

    async def list(self, call: Call) -> Answer:
        queue = call.query.get("queue_id")
        found = [
            each
            for each in await Subscriptions(call.store).list()
            if queue in (None, each.queue_id) and call.caller.may(Right.READ, each.queue)
        ]
        order = _ORDERS.get(call.query.get("order", "created_at"))
        if order is not None:
            found.sort(key=order, reverse=call.query.get("direction") == "desc")
        items, info = read_page(call, found, per_page=PER_PAGE)
        return succeed([_show(each) for each in items], info=info)

    async def create(self, call: Call) -> Answer:
        body = call.decode(SubscriptionBody)
        if body.destination is None or body.source is None or not body.events:
            raise Refusal(0, "name, source, destination and events are required")
        known = await self._destination(call, body.destination)
        with _in_their_words():
            made = await Subscriptions(call.store).create(
                known.name, known.id, source=body.source, events=body.events, name=body.name,
                enabled=body.enabled is not False,
            )  # fmt: skip
        call.target = made.id
        return succeed(_show(made))

    async def show(self, call: Call) -> Answer:
        return succeed(_show(await _find(call, Right.READ)))

    async def update(self, call: Call) -> Answer:
        """What is said changes, the rest stays."""
        present = await _find(call, Right.MANAGE)
        body = call.decode(SubscriptionBody)
        known = None if body.destination is None else await self._destination(call, body.destination)
        with _in_their_words():
            changed = await Subscriptions(call.store).update(
                present.id, name=body.name, enabled=body.enabled, events=body.events,
                to=None if known is None else (known.name, known.id),
            )  # fmt: skip
        return succeed(_show(changed))

    async def delete(self, call: Call) -> Answer:
        present = await _find(call, Right.MANAGE)
        return succeed(_show(await Subscriptions(call.store).delete(present.id)))

    async def announce(self, call: Call, source: str, event: str, payload: dict[str, Any]) -> None:
        """Something happened: send it to the queues that asked. A queue that is gone or full does not hear of it."""
        if self._ids is None:
            self._ids = IdSource(call.store.clock)
        for each in await Subscriptions(call.store).list():
            if not each.enabled or each.source.get("type") != source or event not in each.events:
                continue
            now = datetime.fromtimestamp(call.store.clock.now_ms() / 1000, UTC)
            body = {
                "type": f"cf.{source}.{event}",
                "source": each.source,
                "payload": payload,
                "metadata": {
                    "accountId": call.path["account"],
                    "eventSubscriptionId": each.id,
                    "eventSchemaVersion": 1,
                    "eventTimestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                },
            }
            known = await self._directory.find_id(call.store, each.queue_id)
            if known is not None:
                with contextlib.suppress(NotFoundError, QueueFullError):
                    draft = Draft(id=self._ids.new(), queue=known.name, body=msgspec.json.encode(body))
                    await call.store.append([draft])

    async def _destination(self, call: Call, destination: Destination) -> Known:
        if destination.type != "queues.queue":
            raise Refusal(0, f"Unrecognized destination type '{destination.type[:64]}'")
        known = await self._directory.find_id(call.store, destination.queue_id)
        if known is None or not call.caller.may(Right.MANAGE, known.name):
            words = f"Queue '{destination.queue_id[:64]}' not found. Please verify it exists and try again."
            raise Refusal(QUEUE_NOT_FOUND, words, status=404)
        return known


async def _find(call: Call, right: Right) -> Subscription:
    with _in_their_words():
        found = await Subscriptions(call.store).get(call.path["subscription"])
    if not call.caller.may(right, found.queue):
        raise Refusal(0, UNKNOWN, status=404)
    return found


@contextlib.contextmanager
def _in_their_words() -> Iterator[None]:
    """With the codes and statuses of the original."""
    try:
        yield
    except NotFoundError:
        raise Refusal(0, UNKNOWN, status=404) from None
    except VersionConflictError:
        raise
    except ConflictError as error:
        raise Refusal(0, error.message, status=405) from None
    except InvalidSettingError as error:
        raise Refusal(0, error.message) from None


def _show(each: Subscription) -> dict[str, Any]:
    return {
        "id": each.id,
        "created_at": moment(each.created_at),
        "modified_at": moment(each.modified_at),
        "name": each.name,
        "enabled": each.enabled,
        "source": each.source,
        "destination": {"type": "queues.queue", "queue_id": each.queue_id},
        "events": each.events,
    }


def _endpoint(method: str, path: str, right: Right, handle: Handle, action: str | None = None) -> Endpoint:
    return Endpoint(method=method, path=path, right=right, handle=handle, action=action, content_types=())
