"""The log of what goes to others, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from conveyor.model.ids import MessageId
from conveyor.model.message import Draft
from conveyor.store.memory.belt import Belt
from conveyor.store.memory.witnessed import changes
from conveyor.store.records import Delivery


class Deliveries(Belt):
    """`DeliveryStore`."""

    @changes("delivery", lambda opened: opened[0][0].id.hex() if opened else "")
    async def open_deliveries(self, opened: Sequence[tuple[Delivery, Draft]]) -> None:
        sent = self._append([message for _, message in opened])
        now = self._now()
        for (each, _), message in zip(opened, sent, strict=True):
            if message.deduped:  # somebody else has opened it
                continue
            former = self._tables.deliveries.get(each.id)
            created_at = now if former is None else former.created_at
            self._tables.deliveries[each.id] = replace(each, created_at=created_at, modified_at=now)

    async def write_delivery(self, delivery: Delivery) -> bool:
        present = self._tables.deliveries.get(delivery.id)
        if present is None or present.message_id != delivery.message_id:
            return False
        changed = replace(present, state=delivery.state, body=delivery.body, modified_at=self._now())
        self._tables.deliveries[delivery.id] = changed
        return True

    async def get_delivery(self, delivery: MessageId) -> Delivery | None:
        found = self._tables.deliveries.get(delivery)
        return None if found is None else self._show_delivery(found)

    async def list_deliveries(
        self, *, endpoint: str | None = None, state: str | None = None, limit: int, before: MessageId | None = None
    ) -> list[Delivery]:
        found = [
            each
            for each in self._tables.deliveries.values()
            if endpoint in (None, each.endpoint) and state in (None, each.state)
            if before is None or each.id < before
        ]
        return [self._show_delivery(each) for each in sorted(found, key=lambda each: each.id, reverse=True)[:limit]]

    def _show_delivery(self, delivery: Delivery) -> Delivery:
        is_carried = any(each.id == delivery.message_id for each in self._tables.in_queue(delivery.queue))
        return replace(delivery, is_carried=is_carried)
