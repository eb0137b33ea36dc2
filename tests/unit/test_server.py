"""What `conveyor serve` answers with: health, readiness, the app's own HTTP, and nothing under a name of somebody else's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from conveyor import Conveyor
from conveyor.model.errors import StoreFullError
from conveyor.server.asgi import make_asgi
from conveyor.server.binding import LOOPBACK
from conveyor.server.hosts import HostGuard

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextlib.asynccontextmanager
async def served(app: Conveyor) -> AsyncIterator[httpx2.AsyncClient]:
    asgi = make_asgi(app)
    transport = httpx2.ASGITransport(HostGuard(asgi, LOOPBACK))
    async with (
        asgi.router.lifespan_context(asgi),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8787") as client,
    ):
        yield client


async def test_healthz_and_readyz_answer() -> None:
    async with served(Conveyor("shop", url="memory://")) as client:
        health, ready = await client.get("/healthz"), await client.get("/readyz")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert health.headers["cache-control"] == "no-store"


async def test_readyz_says_why_not_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse() -> Any:
        raise StoreFullError("/secret/place.db")

    app = Conveyor("shop", url="memory://")
    async with served(app) as client:
        monkeypatch.setattr(app.store, "list_owners", refuse)
        ready, health = await client.get("/readyz"), await client.get("/healthz")
    assert ready.status_code == 503
    assert ready.json()["code"] == "store_full"
    assert "secret" not in ready.text
    assert health.status_code == 200


async def test_readyz_names_the_stores_that_are_away_and_only_home_decides(tmp_path: Path) -> None:
    missing, here = f"sqlite:///{tmp_path}/missing/x.db", f"sqlite:///{tmp_path}/x.db"
    async with served(Conveyor("shop", url=here, stores={"media": missing}, routes={"v*": "media"})) as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 200 and "missing" not in ready.text
    assert (ready.json()["status"], list(ready.json()["away"])) == ("ready", ["media"])
    async with served(Conveyor("shop", url=missing, stores={"media": here}, routes={"v*": "media"})) as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 503 and ready.json()["code"] == "store_away"


async def test_app_s_own_http_is_mounted_with_its_lifespan() -> None:
    said: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_asgi: Starlette) -> AsyncIterator[None]:
        await app.queue("jobs").send(1)  # the store is open before, and still is after
        said.append("opened")
        yield
        await app.queue("jobs").send(2)
        said.append("closed")

    async def send(request: Request) -> PlainTextResponse:
        return PlainTextResponse((await app.queue("jobs").send(await request.json())).id)

    app = Conveyor("shop", url="memory://")
    app.declare_queue("jobs")
    app.mount(Starlette(routes=[Route("/send", send, methods=["POST"])], lifespan=lifespan))
    async with served(app) as client:
        assert len((await client.post("/send", json={"n": 1})).text) == 32
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/none")).status_code == 404
        assert said == ["opened"]
    assert said == ["opened", "closed"]


async def test_without_http_of_its_own_all_else_is_not_found() -> None:
    async with served(Conveyor("shop", url="memory://")) as client:
        assert (await client.get("/")).status_code == 404
        assert (await client.post("/healthz")).status_code == 405


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8787", "", "[::2]"])
async def test_strange_host_is_misdirected(host: str) -> None:
    async with served(Conveyor("shop", url="memory://")) as client:
        answer = await client.get("/healthz", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["code"] == "misdirected"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "LOCALHOST", "[::1]:8787", "127.0.0.1:1"])
async def test_loopback_names_are_answered(host: str) -> None:
    async with served(Conveyor("shop", url="memory://")) as client:
        assert (await client.get("/healthz", headers={"host": host})).status_code == 200


async def test_two_hosts_are_none() -> None:
    async with served(Conveyor("shop", url="memory://")) as client:
        answer = await client.get("/healthz", headers=[("host", "127.0.0.1"), ("host", "evil.example")])
    assert answer.status_code == 421


async def test_websockets_are_guarded_too() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def never(*_args: Any) -> None:
        raise AssertionError("it came through")

    scope = {"type": "websocket", "headers": [(b"host", b"evil.example")]}
    await HostGuard(never, LOOPBACK)(scope, receive, send)
    assert sent[0]["type"].startswith("websocket.http.response")
    assert sent[0]["status"] == 421
