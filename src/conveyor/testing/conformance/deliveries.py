"""Deliveries to others, in the store's eyes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from conveyor.model.errors import QueueNotFoundError
from conveyor.store.protocol import Store
from conveyor.store.records import DELIVERY_MS
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import a_worker, claim_one, ids_in, open_queue, settle
from conveyor.testing.factories import a_delivery, a_draft, an_ack


@pytest.mark.anyio
class TestDeliveries:
    async def test_a_delivery_comes_with_its_message(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        message = a_draft()
        await store.open_deliveries([(a_delivery(message), message)])
        now = clock.now_ms()
        assert await ids_in(store) == [message.id]
        assert await store.get_delivery(message.id) == a_delivery(message, created_at=now, modified_at=now)

    async def test_all_or_none_are_opened(self, store: Store) -> None:
        message = a_draft()
        with pytest.raises(QueueNotFoundError):
            await store.open_deliveries([(a_delivery(message), message)])
        assert await store.get_delivery(message.id) is None
        await store.open_deliveries([])

    async def test_it_is_written_by_who_carries_it(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store)
        first, second = a_draft(), a_draft()
        opened = a_delivery(first)
        await store.open_deliveries([(opened, first)])
        begun = clock.now_ms()
        await clock.advance(1)
        assert await store.write_delivery(replace(opened, state="failed", body=b'{"n":1}'))
        found = await store.get_delivery(opened.id)
        assert found is not None
        assert (found.state, found.body) == ("failed", b'{"n":1}')
        assert (found.created_at, found.modified_at) == (begun, begun + 1_000)
        again = replace(opened, message_id=second.id)
        await store.open_deliveries([(again, second)])
        assert not await store.write_delivery(replace(opened, state="delivered"))
        assert await store.write_delivery(replace(again, state="delivered"))
        found = await store.get_delivery(opened.id)
        assert found is not None
        assert (found.state, found.created_at) == ("delivered", begun)

    async def test_one_whose_message_is_there_already_is_left_as_it_is(self, store: Store) -> None:
        await open_queue(store)
        first, second = a_draft(dedupe="msg_1", dedupe_ms=1_000), a_draft(dedupe="msg_1", dedupe_ms=1_000)
        opened = a_delivery(first)
        await store.open_deliveries([(opened, first)])
        await store.open_deliveries([(replace(opened, message_id=second.id, body=b"[]"), second)])
        found = await store.get_delivery(opened.id)
        assert found is not None
        assert (found.message_id, found.body) == (first.id, opened.body)
        assert await ids_in(store) == [first.id]

    async def test_one_without_its_message_is_known(self, store: Store) -> None:
        await open_queue(store)
        worker = await a_worker(store)
        message = a_draft()
        await store.open_deliveries([(a_delivery(message), message)])
        await settle(store, worker, an_ack(await claim_one(store, worker)))
        found = await store.get_delivery(message.id)
        assert found is not None
        assert (found.state, found.is_carried) == ("pending", False)

    async def test_they_are_listed_newest_first_and_page_by_page(self, store: Store) -> None:
        await open_queue(store)
        messages = sorted((a_draft() for _ in range(4)), key=lambda each: each.id)
        parts: list[dict[str, Any]] = [{}, {"state": "failed"}, {"endpoint": "other"}, {"state": "failed"}]
        opened = [(a_delivery(each, **part), each) for each, part in zip(messages, parts, strict=True)]
        await store.open_deliveries(opened)
        newest = [each.id for each in reversed(messages)]
        page = await store.list_deliveries(limit=2)
        rest = await store.list_deliveries(limit=9, before=page[-1].id)
        assert [each.id for each in page + rest] == newest
        to_hook = await store.list_deliveries(endpoint="hook", limit=9)
        assert [each.id for each in to_hook] == [newest[0], newest[2], newest[3]]
        failed = await store.list_deliveries(state="failed", limit=9)
        assert [each.id for each in failed] == [newest[0], newest[2]]
        assert await store.list_deliveries(endpoint="hook", state="failed", limit=9, before=newest[2]) == []

    async def test_what_has_ended_is_swept_after_a_month(self, store: Store, clock: ManualClock) -> None:
        await open_queue(store, retention_ms=14 * 86_400_000)
        ended, pending = a_draft(), a_draft()
        for message, state in ((ended, "delivered"), (pending, "pending")):
            await store.open_deliveries([(a_delivery(message, state=state), message)])
        await clock.advance(DELIVERY_MS / 1000 - 1)
        assert (await store.sweep()).deliveries == 0
        await clock.advance(1)
        assert (await store.sweep()).deliveries == 1
        assert await store.get_delivery(ended.id) is None
        assert await store.get_delivery(pending.id) is not None
