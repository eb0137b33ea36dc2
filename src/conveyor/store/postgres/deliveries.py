"""The log of what goes to others: a delivery and the message that carries it are written together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from conveyor.model.ids import MessageId
from conveyor.model.message import Draft
from conveyor.store.postgres.append import Depths, append
from conveyor.store.postgres.front import Front
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.transaction import Row, Transaction
from conveyor.store.records import Delivery

T = TypeVar("T")

_LAST: Final = b"\xff" * 17


class Deliveries(Front):
    """`DeliveryStore`, as the store's front offers it."""

    _depths: Depths

    async def open_deliveries(self, opened: Sequence[tuple[Delivery, Draft]]) -> None:
        name = opened[0][0].id.hex() if opened else ""
        await self._change("delivery", name, lambda tx: open_deliveries(tx, opened, self._depths))

    async def write_delivery(self, delivery: Delivery) -> bool:
        return await self._run(lambda tx: write_delivery(tx, delivery))

    async def get_delivery(self, delivery: MessageId) -> Delivery | None:
        return await self._run(lambda tx: get_delivery(tx, delivery), Durability.RELAXED)

    async def list_deliveries(
        self, *, endpoint: str | None = None, state: str | None = None, limit: int, before: MessageId | None = None
    ) -> list[Delivery]:
        return await self._run(lambda tx: list_deliveries(tx, endpoint, state, limit, before), Durability.RELAXED)


async def open_deliveries(tx: Transaction, opened: Sequence[tuple[Delivery, Draft]], depths: Depths) -> None:
    sent = await append(tx, [message for _, message in opened], depths)  # first: it may refuse
    for (each, _), message in zip(opened, sent, strict=True):
        if message.deduped:  # somebody else has opened it
            continue
        await tx.run(
            "put_delivery",
            *(each.id, each.endpoint, each.queue, each.event, each.state, each.message_id, tx.now, each.body),
        )


async def write_delivery(tx: Transaction, each: Delivery) -> bool:
    return await tx.run("write_delivery", each.state, tx.now, each.body, each.id, each.message_id) > 0


async def get_delivery(tx: Transaction, delivery: MessageId) -> Delivery | None:
    found = await tx.row("read_delivery", delivery)
    return None if found is None else _delivery(found)


async def list_deliveries(
    tx: Transaction, endpoint: str | None, state: str | None, limit: int, before: MessageId | None
) -> list[Delivery]:
    if endpoint is None:
        found = await tx.rows("list_deliveries", before or _LAST, state, limit)
    else:
        found = await tx.rows("list_deliveries_to", endpoint, before or _LAST, state, limit)
    return [_delivery(each) for each in found]


def _delivery(found: Row) -> Delivery:
    id, endpoint, queue, event, state, message_id, created_at, modified_at, body, is_carried = found
    return Delivery(
        id=id,
        endpoint=endpoint,
        queue=queue,
        event=event,
        state=state,
        message_id=message_id,
        body=body,
        created_at=created_at,
        modified_at=modified_at,
        is_carried=bool(is_carried),
    )
