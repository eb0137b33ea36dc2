"""`conveyor serve` as people run it: streams over the network, and an end that does not wait for them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from kit.served import ADMIN
from kit.shop import open_shop

pytestmark = pytest.mark.anyio
SHOP = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

app.declare_queue("jobs")
over = asyncio.Event()


async def talk():
    yield b"welcome\\n"
    await over.wait()
    yield b"good night\\n"


async def close():
    over.set()


app.mount(Starlette(routes=[Route("/talk", lambda _: StreamingResponse(talk()))]), on_stop=close)
"""


async def test_open_streams_do_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_TOKEN", ADMIN)
    headers = {"authorization": f"Bearer {ADMIN}"}
    async with open_shop(tmp_path) as shop, asyncio.timeout(90):
        shop.write(SHOP)
        tree = shop.start("--port", "0", verb="serve")
        await shop.until(lambda: "serving http://127.0.0.1:" in shop.log())
        base = "http://127.0.0.1:" + shop.log().partition("serving http://127.0.0.1:")[2].split()[0]
        async with (
            httpx2.AsyncClient(timeout=50) as client,
            client.stream("GET", f"{base}/api/v1/events", headers=headers) as stream,
            client.stream("GET", f"{base}/talk") as shops_own,
            connect(base.replace("http", "ws") + "/api/v1/ws", additional_headers=headers, proxy=None, open_timeout=50) as socket,
        ):
            lines = stream.aiter_lines()
            assert await anext(lines) == ": conveyor"
            talk = shops_own.aiter_lines()
            assert await anext(talk) == "welcome"
            assert msgspec.json.decode(await socket.recv())["event"] == "conveyor.queue.measured"
            tree.send_signal(signal.SIGTERM)
            assert [line async for line in lines if line.startswith("event: ")][-1] == "event: conveyor.stream.closed"
            assert await anext(talk) == "good night", "the application's own stream ends in its own words"
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await socket.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
        assert shop.wait(tree) == 0
    assert "Traceback" not in shop.log()
    assert "conveyor.connection.troubled" not in shop.log(), "uvicorn's own patience, 5 s, has not ended it"
