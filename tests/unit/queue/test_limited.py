"""Workers on queues with rates, and with keys that rest or take turns."""

from __future__ import annotations

import asyncio

import pytest

from conveyor import Conveyor, Message, Outgoing
from conveyor.model.errors import InvalidMessageError, InvalidSettingError
from conveyor.model.rate import Rate
from conveyor.model.verdict import RateLimited
from unit.queue.conftest import Workshop

pytestmark = pytest.mark.anyio


async def test_a_worker_begins_no_more_than_the_rate_and_goes_on_by_itself(workshop: Workshop) -> None:
    seen: list[int] = []

    async def handle(message: Message[int]) -> None:
        seen.append(message.body)

    handler = await workshop.declare(handle, rate=Rate(3, 60_000))
    await workshop.queue().send_batch(range(5))
    await workshop.start(handler)
    await workshop.until(lambda: len(seen) == 3)
    await workshop.clock.advance(59)
    assert seen == [0, 1, 2]
    await workshop.clock.advance(2.2)
    await workshop.until_empty()
    assert seen == [0, 1, 2, 3, 4]


async def test_a_worker_takes_no_more_of_a_rate_than_it_can_begin(workshop: Workshop) -> None:
    over = asyncio.Event()
    begun: list[int] = []

    async def handle(message: Message[int]) -> None:
        begun.append(message.body)
        await over.wait()

    handler = await workshop.declare(handle, rate=Rate(50, 60_000))
    await workshop.queue().send_batch(range(9))
    await workshop.start(handler, concurrency=2)
    await workshop.until(lambda: len(begun) == 2)
    await workshop.clock.advance(1)
    assert (await workshop.store.metrics("q")).leased == 2
    over.set()
    await workshop.until_empty()


async def test_only_the_key_rests_that_was_asked_to(workshop: Workshop) -> None:
    seen: list[str] = []

    async def handle(message: Message[str]) -> None:
        seen.append(message.body)
        if seen.count("gold 1") == 1 and message.body == "gold 1":
            raise RateLimited("30", scope="key")

    handler = await workshop.declare(handle, ordered=True, max_retries=0)
    await workshop.queue().send_batch(
        [Outgoing("gold 1", key="gold"), Outgoing("gold 2", key="gold"), Outgoing("tin 1", key="tin")]
    )
    await workshop.start(handler)
    await workshop.until(lambda: len(seen) == 2)
    while (await workshop.store.metrics("q")).leased:
        await asyncio.sleep(0)
    await workshop.clock.advance(29)
    assert sorted(seen) == ["gold 1", "tin 1"]
    await workshop.clock.advance(1.1)
    await workshop.until_empty()
    assert seen[2:] == ["gold 1", "gold 2"]


async def test_keys_take_turns_in_a_worker(workshop: Workshop) -> None:
    seen: list[str] = []

    async def handle(message: Message[str]) -> None:
        seen.append(message.key or "")

    handler = await workshop.declare(handle, fair=True, key_weights={"gold": 2})
    for key in ("tin", "gold"):
        await workshop.queue().send_batch([Outgoing(str(number), key=key) for number in range(4)])
    await workshop.start(handler, concurrency=1)
    await workshop.until_empty()
    assert seen == ["tin", "gold", "gold", "tin", "gold", "gold", "tin", "tin"]


async def test_a_cost_is_checked_at_the_door(workshop: Workshop) -> None:
    async def handle(message: Message[int]) -> None: ...

    await workshop.declare(handle, rate=Rate(3, 60_000))
    await workshop.queue().send(1, cost=3)
    for cost in (0, -1, True, 1.5, 4, 1_000_001):
        with pytest.raises(InvalidMessageError, match="cost"):
            await workshop.queue().send(1, cost=cost)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    "options", [{"rate": "50"}, {"key_rate": "x/m"}, {"key_weights": {"a": 2}}, {"fair": True, "key_weights": {"a": 0}}]
)
def test_a_limit_that_makes_no_sense_is_refused_where_it_is_declared(options: dict[str, object]) -> None:
    with pytest.raises(InvalidSettingError):

        @Conveyor("shop").consumer("q", **options)  # type: ignore[arg-type]  # on purpose
        async def handle(message: Message[int]) -> None: ...


async def test_the_kit_keeps_to_rates_and_turns() -> None:
    app = Conveyor("shop")
    seen: list[str] = []

    @app.consumer("calls", rate="3/m", fair=True)
    async def call(message: Message[str]) -> None:
        seen.append(message.body)

    async with app.testing() as kit:
        for key in "ab":
            await app.queue("calls").send_batch([Outgoing(key, key=key) for _ in range(2)])
        await kit.drain()
        assert seen == ["a", "b", "a"]
        await kit.travel("62s")
        await kit.drain()
        assert seen == ["a", "b", "a", "b"]
