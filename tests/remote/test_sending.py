"""Sends over HTTP: gathered, tried again, never lost, and doubled only where the other side does not look."""

from __future__ import annotations

import asyncio

import pytest

from conveyor import Conveyor, InvalidError, NotFoundError, Outgoing, QueueUnavailableError
from conveyor.model.errors import InvalidMessageError, InvalidTransactionError, StoreUnsupportedError

from .far import Bad, Far

pytestmark = pytest.mark.anyio


async def test_a_body_arrives_as_it_was_sent(far: Far) -> None:
    far.make("orders")
    async with Conveyor("shop", url=far.url) as app:
        queue = app.queue("orders")
        await queue.send({"item": "lamp", "größe": 2}, delay="1500ms")
        await queue.send("good morning", content_type="text")
        await queue.send(b"\x00\xff")
    sent = [each for asked in far.asked_of("/batch") for each in asked.body["messages"]]
    assert sent == [
        {"body": {"item": "lamp", "größe": 2}, "content_type": "json", "delay_seconds": 2},
        {"body": "good morning", "content_type": "text"},
        {"body": "AP8=", "content_type": "bytes"},
    ]
    assert {asked.headers["authorization"] for asked in far.asked} == {f"Bearer {far.token}"}


async def test_what_coroutines_send_at_once_travels_together(far: Far) -> None:
    far.make("orders")
    async with Conveyor("shop", url=far.url) as app:
        queue = app.queue("orders")
        await queue.send(0)
        await asyncio.gather(*(queue.send(number) for number in range(1, 251)))
    sizes = [len(asked.body["messages"]) for asked in far.asked_of("/batch")]
    assert sizes == [1, 100, 100, 50]
    assert sorted(each.body for each in far.messages["orders"]) == list(range(251))


async def test_a_push_stays_below_the_limit_of_bytes(far: Far) -> None:
    far.make("orders")
    async with Conveyor("shop", url=far.url) as app:
        queue = app.queue("orders")
        await asyncio.gather(*(queue.send("x" * 100_000) for _ in range(5)))
    assert sorted(len(asked.body["messages"]) for asked in far.asked_of("/batch")) == [1, 2, 2]
    assert len(far.asked_of("/queues")) == 1


async def test_a_batch_is_one_push(far: Far) -> None:
    far.make("orders")
    async with Conveyor("shop", url=far.url) as app:
        queue = app.queue("orders")
        await asyncio.gather(queue.send_batch(range(60)), queue.send_batch([Outgoing(1, delay=5), 2] * 30))
    assert [len(asked.body["messages"]) for asked in far.asked_of("/batch")] == [60, 60]


@pytest.mark.parametrize(
    "bad",
    [
        Bad(path="/batch", status=429, headers={"Retry-After": "0"}),
        Bad(path="/batch", status=503),
        Bad(path="/batch", status=502, body=b"<html>bad gateway</html>"),
        Bad(path="/batch"),
        Bad(path="/batch", is_done=True),
        Bad(path="/batch", is_done=True, at=60),
        Bad(path="/batch", is_done=True, status=500),
    ],
    ids=["429", "503", "html", "cut before", "answer lost", "answer cut off", "done, then 500"],
)
async def test_a_send_is_tried_again_and_arrives_once(far: Far, bad: Bad) -> None:
    far.make("orders")
    far.bad.append(bad)
    async with Conveyor("shop", url=far.url) as app:
        await app.queue("orders").send("once")
    assert [each.body for each in far.messages["orders"]] == ["once"]
    keys = [asked.headers["idempotency-key"] for asked in far.asked_of("/batch")]
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_retry_after_is_waited_for(far: Far) -> None:
    far.make("orders")
    far.bad.append(Bad(path="/batch", status=429, headers={"Retry-After": "1"}))
    loop = asyncio.get_running_loop()
    async with Conveyor("shop", url=far.url) as app:
        started_at = loop.time()
        await app.queue("orders").send("later")
        assert loop.time() - started_at >= 1


async def test_what_stays_so_is_said_with_a_hint(far: Far) -> None:
    far.make("orders")
    far.bad.extend(Bad(path="/batch", status=429, headers={"Retry-After": "600"}) for _ in range(2))
    async with Conveyor("shop", url=far.url + "&patience=2") as app:
        with pytest.raises(QueueUnavailableError, match="is not available: HTTP status 429, overloaded") as caught:
            await app.queue("orders").send(1)
        assert (caught.value.code, caught.value.hint) == ("queue_unavailable", "it asks us to send less")
        assert caught.value.retry_after_s == 600
    assert far.messages["orders"] == []


async def test_nobody_there_is_said_after_patience() -> None:
    async with Far().serving() as gone:
        url = gone.url
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOUDFLARE_API_TOKEN", "t")
        async with Conveyor("shop", url=url + "&patience=300ms") as app:
            with pytest.raises(QueueUnavailableError, match="no connection") as caught:
                await app.queue("orders").send(1)
    assert "patience" in caught.value.hint


async def test_a_lost_answer_that_stays_lost_says_that_it_may_have_arrived(far: Far) -> None:
    far.make("orders")
    far.bad.extend(Bad(path="/batch", is_done=True) for _ in range(50))
    async with Conveyor("shop", url=far.url + "&patience=500ms") as app:
        with pytest.raises(QueueUnavailableError, match="may have arrived"):
            await app.queue("orders").send(1)
    assert len(far.messages["orders"]) == 1


async def test_where_keys_are_not_known_a_lost_answer_doubles_but_never_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    far = Far(knows_keys=False)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", far.token)
    async with far.serving():
        far.make("orders")
        far.bad.append(Bad(path="/batch", is_done=True))
        async with Conveyor("shop", url=far.url) as app:
            await app.queue("orders").send("twice")
    assert [each.body for each in far.messages["orders"]] == ["twice", "twice"]


async def test_one_refused_message_does_not_take_its_neighbours_along(far: Far) -> None:
    far.make("orders")
    async with Conveyor("shop", url=far.url) as app:
        queue = app.queue("orders")
        await queue.send(0)
        answers = await asyncio.gather(queue.send(1), queue.send("refused"), queue.send(2), return_exceptions=True)
    assert isinstance(answers[1], InvalidError)
    assert not any(isinstance(answers[at], BaseException) for at in (0, 2))
    assert sorted(each.body for each in far.messages["orders"]) == [0, 1, 2]


async def test_a_cancelled_send_is_not_taken_back(far: Far) -> None:
    far.make("orders")
    async with Conveyor("shop", url=far.url) as app:
        await app.queue("orders").send(0)
        sending = asyncio.create_task(app.queue("orders").send(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sending.cancel()
        await far.until(lambda: len(far.messages["orders"]) == 2)


async def test_a_queue_that_is_not_there_names_the_command(far: Far) -> None:
    async with Conveyor("shop", url=far.url) as app:
        with pytest.raises(NotFoundError) as caught:
            await app.queue("orders").send(1)
    assert "conveyor queues create orders --url" in caught.value.hint


async def test_a_queue_that_was_made_anew_is_found_again(far: Far) -> None:
    far.make("orders")
    async with Conveyor("shop", url=far.url) as app:
        await app.queue("orders").send(1)
        del far.queues["orders"]
        with pytest.raises(NotFoundError):
            await app.queue("orders").send(2)
        far.make("orders")
        await app.queue("orders").send(3)
    assert [each.body for each in far.messages["orders"]] == [3]


@pytest.mark.parametrize(
    "options", [{"priority": 9}, {"key": "k"}, {"dedupe": "d"}, {"headers": {"a": 1}}, {"expires_in": 60}, {"cost": 2}]
)
async def test_what_cannot_travel_is_refused(far: Far, options: dict[str, object]) -> None:
    far.make("orders")
    async with Conveyor("shop", url=far.url) as app:
        with pytest.raises(InvalidMessageError, match=next(iter(options))):
            await app.queue("orders").send(1, **options)  # type: ignore[arg-type]  # wrong on purpose
    assert far.messages["orders"] == []


async def test_what_only_a_store_can_do_is_refused(far: Far) -> None:
    far.make("orders")
    async with Conveyor("shop", url=far.url) as app:
        with pytest.raises(StoreUnsupportedError, match="no alarms"):
            await app.alarm("a").set("1m")
        with pytest.raises(InvalidTransactionError):
            await app.queue("orders").send(1, tx=object())


async def test_the_token_is_in_no_word_of_ours(far: Far) -> None:
    far.make("orders")
    async with Conveyor("shop", url=far.url) as app:
        said = [repr(app.store), repr(vars(app.store)), repr(app.queue("orders")), repr(app.store.client)]  # type: ignore[attr-defined]  # a remote one has it
        far.token = "another one"  # noqa: S105  # the test's own
        with pytest.raises(QueueUnavailableError, match="refuses the token") as caught:
            await app.queue("orders").send(1)
    assert "a-token-that-must-not-be-seen" not in " ".join([*said, str(caught.value), repr(caught.value.facts)])


async def test_a_redirect_is_not_followed(far: Far) -> None:
    far.make("orders")
    far.bad.append(Bad(path="/queues", status=307, headers={"Location": "http://127.0.0.1:1/elsewhere"}))
    async with Conveyor("shop", url=far.url) as app:
        with pytest.raises(QueueUnavailableError, match="HTTP status 307"):
            await app.queue("orders").send(1)
