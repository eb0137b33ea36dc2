"""The same handlers, fed by pulls: verdicts, delays, attempts, ends of leases, and an API that comes and goes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from conveyor import Backoff, Batch, Conveyor, Message, RateLimited, Reject, Retry
from conveyor.model.errors import StoreUnsupportedError
from conveyor.model.events import ClaimFailed, Event, LeaseLost, MessageDeadLettered, SettleFailed

from .far import Bad, Far

pytestmark = pytest.mark.anyio


class Heard(list[Event]):
    def of(self, kind: type[Event]) -> list[Any]:
        return [each for each in self if isinstance(each, kind)]


def make_app(far: Far, options: str = "") -> tuple[Conveyor, Heard]:
    heard = Heard()
    return Conveyor("shop", url=far.url + options, emit=heard.append), heard


@contextlib.asynccontextmanager
async def working(app: Conveyor, concurrency: int = 10) -> AsyncIterator[None]:
    task = asyncio.create_task(app.work(concurrency=concurrency))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_messages_are_handled_and_acknowledged_in_groups(far: Far) -> None:
    far.make("orders")
    for number in range(250):
        far.put("orders", {"n": number})
    app, _ = make_app(far)
    seen: list[int] = []

    @app.consumer("orders")
    async def take(message: Message[dict[str, int]]) -> None:
        seen.append(message.body["n"])

    async with working(app, concurrency=100):
        await far.until(lambda: not far.messages["orders"])
    assert sorted(seen) == list(range(250))
    asked = far.asked_of("/ack")
    assert sum(len(each.body["acks"]) for each in asked) == 250
    assert max(len(each.body["acks"]) for each in asked) <= 100
    assert len(asked) < 50
    assert {each.body["batch_size"] for each in far.asked_of("/pull")} <= set(range(1, 101))


async def test_bodies_come_as_they_were_sent(far: Far) -> None:
    far.make("orders")
    far.put("orders", {"a": [1, "ü"]})
    far.put("orders", "true", "text")
    far.put("orders", base64.b64encode(b"\x00\xff").decode(), "bytes")
    app, _ = make_app(far)
    seen: list[tuple[str, Any]] = []

    @app.consumer("orders")
    async def take(message: Message[Any]) -> None:
        seen.append((message.id, message.body))
        assert message.attempts == 1
        assert abs(message.timestamp.timestamp() - time.time()) < 60

    async with working(app):
        await far.until(lambda: not far.messages["orders"])
    assert seen == [(f"{1:032x}", {"a": [1, "ü"]}), (f"{2:032x}", "true"), (f"{3:032x}", b"\x00\xff")]


@pytest.mark.parametrize("body", [{"a": 1}, "text", 12345678, True, None, "MTIz", [1, 2]])
async def test_json_in_base64_is_read_too(far: Far, body: object) -> None:
    far.make("orders")
    far.encode = lambda stored: base64.b64encode(msgspec.json.encode(stored.body)).decode()
    far.put("orders", body)
    app, _ = make_app(far)
    seen = []

    @app.consumer("orders")
    async def take(message: Message[Any]) -> None:
        seen.append(message.body)

    async with working(app):
        await far.until(lambda: not far.messages["orders"])
    assert seen == [body]


async def test_verdicts_travel(far: Far) -> None:
    far.make("orders", letters="orders-failed", retry_delay=7)
    far.make("orders-failed")
    for kind in ("retry", "later", "error", "reject", "wait", "fine"):
        far.put("orders", kind)
    app, heard = make_app(far)

    @app.consumer("orders", max_batch_size=6)
    async def take(batch: Batch[str]) -> None:
        for message in batch:
            match message.body:
                case "retry":
                    message.retry(0)
                case "later":
                    message.retry("90s")
                case "reject":
                    message.reject("no use")
                case "fine":
                    message.ack()
        raise ValueError("error, and wait")

    async with working(app):
        await far.until(lambda: len(far.messages["orders"]) == 4 and bool(far.asked_of("/ack")))
    delays = [each["delay_seconds"] for asked in far.asked_of("/ack") for each in asked.body["retries"]]
    assert sorted(delays) == [0, 7, 7, 90]  # the queue's own retry_delay, as the other side says it
    assert [each.body for each in far.messages["orders-failed"]] == ["reject"]
    assert [each.reason for each in heard.of(MessageDeadLettered)] == ["no use"]


async def test_a_delay_of_ones_own_beats_that_of_the_queue(far: Far) -> None:
    far.make("orders", retry_delay=7)
    far.put("orders", 1)
    app, _ = make_app(far)

    @app.consumer("orders", retry_delay=Backoff.fixed("12s"))
    async def take(message: Message[int]) -> None:
        raise Retry

    async with working(app):
        await far.until(lambda: bool(far.asked_of("/ack")))
    [asked] = far.asked_of("/ack")
    assert [each["delay_seconds"] for each in asked.body["retries"]] == [12]


async def test_a_rejected_message_without_a_dead_letter_queue_goes_its_way(far: Far) -> None:
    far.make("keep")
    far.make("drop")
    far.put("keep", 1)
    far.put("drop", 1)
    app, heard = make_app(far)

    @app.consumer("keep")
    async def keep(message: Message[int]) -> None:
        raise Reject("no")

    @app.consumer("drop", dead_letter_queue=None)
    async def drop(message: Message[int]) -> None:
        raise Reject("no")

    async with working(app):
        await far.until(lambda: not far.messages["drop"])
        await far.until(lambda: far.messages["keep"][0].attempts == 4)  # until its retries are spent
        await far.until(lambda: len(heard.of(MessageDeadLettered)) == 2)


async def test_the_whole_queue_rests_after_rate_limited(far: Far) -> None:
    far.make("orders")
    far.put("orders", 1)
    app, _ = make_app(far)

    @app.consumer("orders")
    async def take(message: Message[int]) -> None:
        raise RateLimited("60s")

    async with working(app):
        await far.until(lambda: bool(far.asked_of("/ack")))
        pulls = len(far.asked_of("/pull"))
        await app.store.clock.sleep(1.5)
        assert len(far.asked_of("/pull")) == pulls


async def test_an_empty_queue_is_asked_less_and_less(far: Far) -> None:
    far.make("orders")
    app, _ = make_app(far)
    seen = []

    @app.consumer("orders")
    async def take(message: Message[int]) -> None:
        seen.append(message.body)

    async with working(app):
        await far.until(lambda: bool(far.asked_of("/pull")))
        await app.store.clock.sleep(3)
        assert len(far.asked_of("/pull")) <= 8
        await far.until(lambda: len(far.asked_of("/pull")) >= 3)
        far.put("orders", 1)
        await far.until(lambda: not far.messages["orders"])
    assert seen == [1]


async def test_a_lease_lives_as_long_as_a_handler_may(far: Far) -> None:
    for name in ("orders", "mails"):
        far.make(name)
    app, _ = make_app(far)

    @app.consumer("orders", timeout="45s")
    async def take(message: Message[int]) -> None: ...

    @app.consumer("mails", timeout="12h")
    async def post(message: Message[int]) -> None: ...

    async with working(app):
        await far.until(lambda: len({each.path for each in far.asked_of("/pull")}) == 2)
    leases = {each.path.split("/")[-3]: each.body["visibility_timeout_ms"] for each in far.asked_of("/pull")}
    assert leases == {"id-orders": 75_000, "id-mails": 12 * 3_600_000}


async def test_a_handler_is_told_when_its_lease_ends(far: Far) -> None:
    far.make("orders")
    far.make("threads")
    far.put("orders", 1)
    far.put("threads", 1)
    app, heard = make_app(far, "&lease=1s")
    ended: list[str] = []
    told: list[bool] = []

    @app.consumer("orders")
    async def take(message: Message[int]) -> None:
        if message.attempts == 1:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("cancelled")

    @app.consumer("threads")
    def work(message: Message[int]) -> None:
        while message.attempts == 1 and not message.lease_lost:
            time.sleep(0.01)
        told.append(message.lease_lost)

    async with working(app):
        await far.until(lambda: not far.messages["orders"] and not far.messages["threads"])
        while True not in told:
            await app.store.clock.sleep(0.01)
    assert ended == ["cancelled"]
    assert True in told
    lost = [id for each in heard.of(LeaseLost) for id in each.message_ids]
    assert len(set(lost)) == 2, "on a busy machine an attempt more than these"


async def test_what_waited_longer_than_its_lease_does_not_begin(far: Far) -> None:
    far.make("orders")
    far.put("orders", 0)
    app, _ = make_app(far, "&lease=2s")
    begun: list[tuple[int, int]] = []
    gate = asyncio.Event()

    @app.consumer("orders")
    async def take(message: Message[int]) -> None:
        begun.append((message.body, message.attempts))
        while len(begun) == 2 and not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):  # a handler that will not go: its slot stays taken
                await gate.wait()

    async with working(app, concurrency=1):
        await far.until(lambda: not far.messages["orders"])
        for number in (1, 2, 3):  # the first one was quick, so these are pulled together
            far.put("orders", number)
        await far.until(lambda: all(each.attempts == 1 for each in far.messages["orders"]))
        await app.store.clock.sleep(3.8)  # the lease, and the worker's next look at what it has
        gate.set()
        await far.until(lambda: not far.messages["orders"])
    assert begun[:2] == [(0, 1), (1, 1)]
    assert all(attempts >= 2 for _, attempts in begun[2:])


async def test_a_lost_answer_to_an_ack_is_asked_again(far: Far) -> None:
    far.make("orders")
    far.put("orders", 1)
    far.put("orders", 2)
    far.bad.append(Bad(path="/ack", is_done=True))
    far.bad.append(Bad(path="/ack", status=503))
    app, heard = make_app(far)
    seen = []

    @app.consumer("orders")
    async def take(message: Message[int]) -> None:
        seen.append(message.body)
        if message.body == 2 and message.attempts == 1:
            raise Retry

    async with working(app):
        await far.until(lambda: not far.messages["orders"])
    assert sorted(seen) == [1, 2, 2]
    assert len(heard.of(SettleFailed)) == 2
    assert heard.of(LeaseLost) == []


@pytest.mark.parametrize(
    "bad", [Bad(path="/pull", is_done=True), Bad(path="/pull", is_done=True, at=200)], ids=["lost", "cut off"]
)
async def test_a_lost_pull_comes_back_when_its_lease_ends(far: Far, bad: Bad) -> None:
    far.make("orders")
    far.put("orders", "x" * 1_000)
    far.bad.append(bad)
    app, heard = make_app(far, "&lease=1s")
    attempts = []

    @app.consumer("orders")
    async def take(message: Message[str]) -> None:
        attempts.append(message.attempts)

    async with working(app):
        await far.until(lambda: not far.messages["orders"])
    assert attempts[0] >= 2
    assert "the answer was lost" in heard.of(ClaimFailed)[0].error


async def test_an_api_that_goes_and_comes_is_lived_through(monkeypatch: pytest.MonkeyPatch) -> None:
    far = Far()
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", far.token)
    far.make("orders")
    with far.away():
        await _lives_through_it(far)


async def _lives_through_it(far: Far) -> None:
    app, heard = make_app(far)
    seen = []

    @app.consumer("orders")
    async def take(message: Message[int]) -> None:
        seen.append(message.body)

    async with working(app):
        while not heard.of(ClaimFailed):
            await app.store.clock.sleep(0.01)
        far.put("orders", 7)
        async with far.serving():
            await far.until(lambda: not far.messages["orders"])
    assert seen == [7]


async def test_a_paused_queue_is_left_alone_and_taken_up_again(far: Far) -> None:
    far.make("orders")
    far.put("orders", 1)
    app, heard = make_app(far)
    seen = []

    @app.consumer("orders")
    async def take(message: Message[int]) -> None:
        seen.append(message.body)

    far.queues["orders"]["settings"]["delivery_paused"] = True
    async with working(app):
        await far.until(lambda: bool(far.asked_of("/queues")))
        assert seen == []
        await app.resume("orders")
        await far.until(lambda: not far.messages["orders"])
    assert seen == [1]
    assert heard.of(ClaimFailed) == []


@pytest.mark.parametrize("consumer", [None, "worker"])
async def test_a_queue_that_cannot_be_pulled_says_what_to_do(far: Far, consumer: str | None) -> None:
    far.make("orders", consumer=consumer)
    app, heard = make_app(far)

    @app.consumer("orders")
    async def take(message: Message[int]) -> None: ...

    async with working(app):
        while not heard.of(ClaimFailed):
            await app.store.clock.sleep(0.01)
    assert "`conveyor queues consumer http add orders`" in heard.of(ClaimFailed)[0].error


@pytest.mark.parametrize("option", [{"ordered": True}, {"rate": "5/s"}, {"fair": True}, {"alert_queue": "alerts"}])
async def test_promises_that_need_a_store_are_refused_at_the_start(far: Far, option: dict[str, Any]) -> None:
    app, _ = make_app(far)

    @app.consumer("orders", **option)
    async def take(message: Message[int]) -> None: ...

    with pytest.raises(StoreUnsupportedError, match=next(iter(option))):
        await app.ensure_open()


async def test_the_stop_gives_back_what_has_not_begun(far: Far) -> None:
    far.make("orders")
    for number in range(20):
        far.put("orders", number)
    app, _ = make_app(far)
    begun = asyncio.Event()

    @app.consumer("orders")
    async def take(message: Message[int]) -> None:
        begun.set()
        await asyncio.sleep(60)

    async with working(app, concurrency=2):
        await begun.wait()
    assert all(each.lease_id is None for each in far.messages["orders"])


async def test_one_route_makes_a_queue_of_an_app_remote(far: Far, tmp_path: Any) -> None:
    far.make("orders")
    far.make("of-others")
    far.put("of-others", 1)
    heard = Heard()
    app = Conveyor(
        "shop", url=f"sqlite:///{tmp_path}/shop.db", stores={"edge": far.url}, routes={"orders": "edge"}, emit=heard.append
    )
    seen: list[str] = []

    @app.consumer("orders")
    async def take(message: Message[str]) -> None:
        seen.append(message.body)
        await app.queue("parcels").send(message.body)

    @app.consumer("parcels")
    async def post(message: Message[str]) -> None:
        seen.append(f"posted {message.body}")

    async with app:
        await app.queue("orders").send("lamp")
        async with working(app):
            while "posted lamp" not in seen:
                await app.store.clock.sleep(0.01)
            await far.until(lambda: not far.messages["orders"])
    assert seen == ["lamp", "posted lamp"]
    assert [each.name for each in heard] == ["conveyor.worker.started", "conveyor.worker.stopped"]


async def test_a_test_of_the_app_needs_no_network() -> None:
    app = Conveyor("shop", url="cloudflare://acc/orders?api=http://127.0.0.1:1")
    seen = []

    @app.consumer("orders")
    async def take(message: Message[int]) -> None:
        seen.append(message.body)

    async with app.testing() as kit:
        await app.queue("orders").send(1)
        assert await kit.drain() == 1
    assert seen == [1]
