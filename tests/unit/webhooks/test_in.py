"""Webhooks that come in: S28 and S29 of spec/security.md."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from standardwebhooks import Webhook

from conveyor import Conveyor, Message, QueueSettings
from conveyor.model.errors import InvalidError
from conveyor.testing.clock import ManualClock
from conveyor.webhooks import make_secret
from conveyor.webhooks.receiver import BODY_MAX, Receiver

pytestmark = pytest.mark.anyio

SECRET = make_secret()
OTHER = make_secret()
BODY = '{"type":"paid","data":{"n":1}}'


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def app(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Conveyor]:
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db", clock=clock)
    app.mount(app.webhooks.receiver("payments", secret=[SECRET, OTHER]))
    async with app:
        yield app


@pytest.fixture
async def sender(app: Conveyor) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app.http), base_url="http://shop") as client:
        yield client


def signed(clock: ManualClock, *, secret: str = SECRET, webhook_id: str = "msg_1", late_s: int = 0, body: str = BODY) -> dict[str, str]:
    at = datetime.fromtimestamp(clock.now_ms() // 1000 - late_s, UTC)
    signature = Webhook(secret).sign(webhook_id, at, body)
    return {"webhook-id": webhook_id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


async def waiting(app: Conveyor) -> list[bytes]:
    return [each.body for each in await app.store.peek("payments", limit=100)]


async def test_what_is_signed_is_a_message(app: Conveyor, sender: httpx2.AsyncClient, clock: ManualClock) -> None:
    answer = await sender.post("/", content=BODY, headers=signed(clock))
    assert (answer.status_code, answer.content) == (202, b"")
    assert await waiting(app) == [BODY.encode()]
    assert (await sender.post("/", content=BODY, headers=signed(clock, secret=OTHER, webhook_id="msg_2"))).status_code == 202
    assert len(await waiting(app)) == 2


async def test_a_replay_is_answered_and_not_sent_again(app: Conveyor, sender: httpx2.AsyncClient, clock: ManualClock) -> None:
    headers = signed(clock)
    for _ in range(3):
        assert (await sender.post("/", content=BODY, headers=headers)).status_code == 202
    assert len(await waiting(app)) == 1
    await app.store.discard("payments", [each.seq for each in await app.store.peek("payments", limit=9)])
    await clock.advance(299)
    assert (await sender.post("/", content=BODY, headers=headers)).status_code == 202
    assert await waiting(app) == [], "also after it was handled"
    await clock.advance(2)
    assert (await sender.post("/", content=BODY, headers=headers)).status_code == 401


async def test_one_from_the_future_is_not_replayed_when_its_time_comes(
    app: Conveyor, sender: httpx2.AsyncClient, clock: ManualClock
) -> None:
    headers = signed(clock, late_s=-299)
    assert (await sender.post("/", content=BODY, headers=headers)).status_code == 202
    await app.store.discard("payments", [each.seq for each in await app.store.peek("payments", limit=9)])
    await clock.advance(590)
    assert (await sender.post("/", content=BODY, headers=headers)).status_code == 202
    assert await waiting(app) == []


@pytest.mark.parametrize(
    ("change", "body"),
    [
        ({}, BODY + " "),
        ({}, '{"data":{"n":1},"type":"paid"}'),
        ({"webhook-signature": ""}, BODY),
        ({"webhook-signature": "v1,é".encode().decode("latin-1")}, BODY),
        ({"webhook-timestamp": "yesterday"}, BODY),
        ({"webhook-timestamp": "9" * 4_000}, BODY),
        ({"webhook-id": "another"}, BODY),
        ({"webhook-id": ""}, BODY),
    ],
)
async def test_anything_else_is_refused_without_a_word(
    app: Conveyor, sender: httpx2.AsyncClient, clock: ManualClock, change: dict[str, str], body: str
) -> None:
    headers = [(name, value.encode("latin-1")) for name, value in (signed(clock) | change).items()]
    answer = await sender.post("/", content=body, headers=headers)  # type: ignore[arg-type]  # bytes, as they come
    assert (answer.status_code, answer.content) == (401, b"")
    assert (await sender.post("/", content=body)).status_code == 401
    assert await waiting(app) == []


@pytest.mark.parametrize("late_s", [-302, 302])
async def test_stale_and_future_are_refused(app: Conveyor, sender: httpx2.AsyncClient, clock: ManualClock, late_s: int) -> None:
    assert (await sender.post("/", content=BODY, headers=signed(clock, late_s=late_s))).status_code == 401
    assert await waiting(app) == []


async def test_only_post_and_only_so_much(app: Conveyor, sender: httpx2.AsyncClient, clock: ManualClock) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        answer = await sender.request(method, "/", content=BODY, headers=signed(clock))
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    long = "x" * BODY_MAX
    assert (await sender.post("/", content=long + "x", headers=signed(clock, body=long + "x"))).status_code == 413

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(BODY_MAX // 65_536 + 1):
            yield b"x" * 65_536

    assert (await sender.post("/", content=pieces(), headers=signed(clock))).status_code == 413
    assert (await sender.post("/", content=long, headers=signed(clock, body=long))).status_code == 202
    assert await waiting(app) == [long.encode()]


async def test_a_queue_that_takes_nothing_says_come_again(app: Conveyor, sender: httpx2.AsyncClient, clock: ManualClock) -> None:
    await app.store.update_queue("payments", QueueSettings(max_backlog_messages=1, dedupe_window_ms=900_000))
    assert (await sender.post("/", content=BODY, headers=signed(clock))).status_code == 202
    answer = await sender.post("/", content=BODY, headers=signed(clock, webhook_id="msg_2"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")


async def test_a_consumer_of_its_queue_is_typed_and_the_window_is_raised(tmp_path: Path, clock: ManualClock) -> None:
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db", clock=clock)
    async with Conveyor("first", url=app.url, clock=clock) as first:
        await first.store.create_queue("payments", QueueSettings())
    receiver: Receiver = app.webhooks.receiver("payments", secret=SECRET)

    @app.consumer("payments")
    async def paid(message: Message[dict[str, object]]) -> None: ...

    async with app, httpx2.AsyncClient(transport=httpx2.ASGITransport(receiver), base_url="http://shop") as sender:
        assert (await sender.post("/", content=BODY, headers=signed(clock))).status_code == 202
        assert (await app.info("payments")).settings.dedupe_window_ms == 900_000
        assert [each.queue for each in app.handlers()] == ["payments"], "it sends none"


@pytest.mark.parametrize("secret", ["", [], "short", ["whsec_AAAA"]])
def test_a_receiver_needs_a_secret(secret: str) -> None:
    with pytest.raises(InvalidError):
        Conveyor("shop", url="memory://").webhooks.receiver("payments", secret=secret)
