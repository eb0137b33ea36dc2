"""Encrypted queues over HTTP: what is sent is sealed, what is shown is the letter, and edits stay sealed."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conveyor import ConsumerSettings, Conveyor, QueueSettings
from conveyor.model.settings import ConsumerType
from conveyor.queue.sealing import is_sealed
from conveyor.server.asgi import make_asgi

pytestmark = pytest.mark.anyio

TOKEN = "t" * 40
ACCOUNT = "0" * 32


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Conveyor]:
    monkeypatch.setenv("CONVEYOR_SECRETS_KEY", base64.b64encode(b"1" * 32).decode())
    app = Conveyor("clinic", url=f"sqlite:///{tmp_path}/clinic.db", encrypted=["mail"], wrangler=None)
    app.declare_queue("mail", QueueSettings())
    async with app:
        consumer = ConsumerSettings(type=ConsumerType.HTTP_PULL, dead_letter_queue="mail-dlq")
        await app.store.put_consumer("mail", consumer)
        yield app


@pytest.fixture
async def client(app: Conveyor) -> AsyncIterator[httpx2.AsyncClient]:
    door = httpx2.ASGITransport(app=make_asgi(app, token=TOKEN))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(transport=door, base_url="http://127.0.0.1", headers=headers) as client:
        yield client


async def post(client: httpx2.AsyncClient, path: str, body: Any, status: int = 200) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


async def test_api_v1_seals_shows_letters_and_keeps_edits_sealed(app: Conveyor, client: httpx2.AsyncClient) -> None:
    await post(client, "/api/v1/queues/mail/messages", {"body": {"name": "Ada"}}, 201)
    [message] = await app.store.peek("mail", limit=2)
    assert is_sealed(message.body)
    assert app.sealer.opened(message).body == b'{"name":"Ada"}'
    shown = (await client.get("/api/v1/queues/mail/messages")).json()["items"][0]["body"]
    assert (shown["queue"], shown["place"]) == ("mail", f"message/{message.id.hex()}")
    [pulled] = (await post(client, "/api/v1/queues/mail/messages/pull", {}))["messages"]
    assert pulled["body"] == shown
    await post(client, "/api/v1/queues/mail/messages/settle", {"rejects": [{"lease_id": pulled["lease_id"]}]})
    path = f"/api/v1/dead-letters/mail-dlq/{message.id.hex()}"
    read = await client.get(path)
    assert read.json()["body"] == shown
    edited = await client.patch(path, json={"body": {"name": "Bea"}}, headers={"if-match": read.headers["etag"]})
    assert edited.status_code == 200, edited.text
    [letter] = await app.store.peek("mail-dlq", limit=2)
    assert is_sealed(letter.body)
    assert app.sealer.opened(letter).body == b'{"name":"Bea"}'


async def test_cloudflares_api_seals_and_shows_letters(app: Conveyor, client: httpx2.AsyncClient) -> None:
    queues = (await client.get(f"/client/v4/accounts/{ACCOUNT}/queues")).json()["result"]
    [id] = [each["queue_id"] for each in queues if each["queue_name"] == "mail"]
    base = f"/client/v4/accounts/{ACCOUNT}/queues/{id}/messages"
    await post(client, base, {"body": {"name": "Ada"}})
    await post(client, f"{base}/batch", {"messages": [{"body": "Ada", "content_type": "text"}]})
    first, second = await app.store.peek("mail", limit=9)
    assert [app.sealer.opened(each).body for each in (first, second)] == [b'{"name":"Ada"}', b"Ada"]
    pulled = (await post(client, f"{base}/pull", {"batch_size": 9}))["result"]["messages"]
    assert len(pulled) == 2
    assert "Ada" not in str(pulled)
