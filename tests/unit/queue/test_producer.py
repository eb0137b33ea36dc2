"""What is sent is checked at the door."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from conveyor.model.errors import BodyTooLargeError, InvalidError, QueueNotFoundError
from conveyor.model.settings import QueueSettings
from conveyor.queue.producer import SETTINGS_FRESH_S, Outgoing

if TYPE_CHECKING:
    from unit.queue.conftest import Workshop

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shop(workshop: Workshop) -> Workshop:
    await workshop.store.create_queue("q", QueueSettings())
    return workshop


async def test_a_sent_message_is_in_the_store_under_its_id(shop: Workshop) -> None:
    sent = await shop.queue().send({"n": 1})
    [found] = await shop.peek()
    assert found.id.hex() == sent.id and len(sent.id) == 32
    assert found.body == b'{"n":1}' and found.content_type == "json" and not sent.deduped


async def test_every_option_reaches_the_store(shop: Workshop) -> None:
    await shop.queue().send(
        "hi", delay=timedelta(minutes=1), priority=8, key="k", content_type="text", headers={"a": 1}, expires_in="2h"
    )
    [found] = await shop.peek()
    assert (found.priority, found.key, found.content_type, found.headers) == (8, "k", "text", b'{"a":1}')
    assert found.ready_at == found.sent_at + 60_000


async def test_a_live_dedupe_key_returns_the_first_message(shop: Workshop) -> None:
    first = await shop.queue().send(1, dedupe="d")
    second = await shop.queue().send(2, dedupe="d")
    assert second.deduped and second.id == first.id


async def test_a_message_delay_beats_the_queues_own_even_when_it_is_zero(workshop: Workshop) -> None:
    await workshop.store.create_queue("q", QueueSettings(delivery_delay_ms=5_000))
    await workshop.queue().send(1)
    await workshop.queue().send(2, delay=0)
    late, now = await workshop.peek()
    assert late.ready_at - late.sent_at == 5_000 and now.ready_at == now.sent_at


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": 86_400.001},
        {"delay": float("nan")},
        {"priority": 10},
        {"priority": -1},
        {"priority": True},
        {"key": ""},
        {"key": "x" * 257},
        {"key": "a\0"},
        {"dedupe": "x" * 257},
        {"content_type": "xml"},
        {"headers": {"x": "y" * 4_096}},
        {"headers": {1: "y"}},
        {"headers": "text"},
        {"expires_in": 0},
    ],
    ids=str,
)
async def test_an_option_out_of_bounds_is_refused_and_nothing_is_written(shop: Workshop, options: Any) -> None:
    with pytest.raises(InvalidError):
        await shop.queue().send({"n": 1}, **options)
    with pytest.raises(InvalidError):
        await shop.queue().send_batch([1, Outgoing(2, **options)])
    assert await shop.peek() == []


async def test_bodies_are_bounded_to_the_byte(shop: Workshop) -> None:
    await shop.queue().send(b"x" * 128_000)
    await shop.queue().send("x" * 127_998)
    with pytest.raises(BodyTooLargeError):
        await shop.queue().send(b"x" * 128_001)
    with pytest.raises(BodyTooLargeError):
        await shop.queue().send("x" * 127_999)
    with pytest.raises(BodyTooLargeError):
        await shop.queue().send_batch([b"x" * 128_001])


async def test_batches_are_bounded_in_count_and_bytes(shop: Workshop) -> None:
    assert len(await shop.queue().send_batch(range(100))) == 100
    await shop.queue().send_batch([b"x" * 128_000, b"x" * 128_000])
    with pytest.raises(InvalidError):
        await shop.queue().send_batch(range(101))
    with pytest.raises(BodyTooLargeError):
        await shop.queue().send_batch([b"x" * 128_000, b"x" * 128_000, b"x"])
    assert await shop.backlog() == 102
    assert await shop.queue().send_batch([]) == []


async def test_an_item_s_own_delay_beats_the_batch_s(shop: Workshop) -> None:
    await shop.queue().send_batch([1, Outgoing(2, delay=5), Outgoing(3, delay=0)], delay=60)
    assert [found.ready_at - found.sent_at for found in await shop.peek()] == [60_000, 5_000, 0]


async def test_a_batch_s_messages_keep_their_order(shop: Workshop) -> None:
    sent = await shop.queue().send_batch(range(50))
    assert [found.id.hex() for found in await shop.peek()] == [each.id for each in sent]
    assert sorted(each.id for each in sent) == [each.id for each in sent]


async def test_a_changed_limit_is_noticed_within_seconds(shop: Workshop) -> None:
    queue = shop.queue()
    await queue.send("x" * 100)
    await shop.store.update_queue("q", QueueSettings(max_message_bytes=10))
    await shop.clock.advance(SETTINGS_FRESH_S)
    with pytest.raises(BodyTooLargeError):
        await queue.send("x" * 100)


async def test_a_queue_that_does_not_exist_is_named(workshop: Workshop) -> None:
    with pytest.raises(QueueNotFoundError, match="nowhere"):
        await workshop.queue("nowhere").send(1)


async def test_metrics_tell_the_backlog(shop: Workshop) -> None:
    await shop.queue().send_batch([1, 2])
    assert (await shop.queue().metrics()).backlog_messages == 2


async def test_a_batch_of_bare_bodies_is_what_a_batch_with_options_is(shop: Workshop) -> None:
    bare = await shop.queue().send_batch([1, "two", None], delay=3)
    mixed = await shop.queue().send_batch([1, "two", Outgoing(None), b"raw"], delay=3)
    found = await shop.peek()
    assert [each.id.hex() for each in found] == [sent.id for sent in [*bare, *mixed]]
    assert [(each.body, each.content_type, each.ready_at - each.sent_at) for each in found] == [
        *[(b"1", "json", 3_000), (b'"two"', "json", 3_000), (b"null", "json", 3_000)] * 2,
        (b"raw", "bytes", 3_000),
    ]


async def test_ids_of_batches_and_of_single_messages_go_up_together(shop: Workshop) -> None:
    queue = shop.queue()
    ids = [sent.id for count in (1, 3, 2) for sent in [*await queue.send_batch([0] * count), await queue.send(0)]]
    assert ids == sorted(set(ids))
