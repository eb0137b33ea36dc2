"""Deliveries of a routed store: each lies in the store of its queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conveyor.model.ids import MessageId
from conveyor.model.message import Draft
from conveyor.store.protocol import Store
from conveyor.store.records import Delivery
from conveyor.store.routed.asking import first_of


class PartDeliveries:
    """`DeliveryStore` of one of the stores."""

    @property
    def _live(self) -> Store:
        raise NotImplementedError

    async def open_deliveries(self, opened: Sequence[tuple[Delivery, Draft]]) -> None:
        await self._live.open_deliveries(opened)

    async def write_delivery(self, delivery: Delivery) -> bool:
        return await self._live.write_delivery(delivery)

    async def get_delivery(self, delivery: MessageId) -> Delivery | None:
        return await self._live.get_delivery(delivery)

    async def list_deliveries(
        self, *, endpoint: str | None = None, state: str | None = None, limit: int, before: MessageId | None = None
    ) -> list[Delivery]:
        return await self._live.list_deliveries(endpoint=endpoint, state=state, limit=limit, before=before)


class RoutedDeliveries:
    """`DeliveryStore` of all of them."""

    @property
    def _delivery_stores(self) -> Mapping[str, PartDeliveries]:
        raise NotImplementedError

    def _delivery_store(self, queue: str) -> PartDeliveries:
        raise NotImplementedError

    async def open_deliveries(self, opened: Sequence[tuple[Delivery, Draft]]) -> None:
        """All of one app, and so of one queue."""
        if opened:
            await self._delivery_store(opened[0][0].queue).open_deliveries(opened)

    async def write_delivery(self, delivery: Delivery) -> bool:
        return await self._delivery_store(delivery.queue).write_delivery(delivery)

    async def get_delivery(self, delivery: MessageId) -> Delivery | None:
        return await first_of(self._delivery_stores.values(), lambda part: part.get_delivery(delivery))

    async def list_deliveries(
        self, *, endpoint: str | None = None, state: str | None = None, limit: int, before: MessageId | None = None
    ) -> list[Delivery]:
        found = [
            each
            for part in self._delivery_stores.values()
            for each in await part.list_deliveries(endpoint=endpoint, state=state, limit=limit, before=before)
        ]
        return sorted(found, key=lambda each: each.id, reverse=True)[:limit]
