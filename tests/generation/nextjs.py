"""The sample receiver on a port of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from conveyor.webhooks import make_secret
from conveyor_apps.generation.nextjs import Received, Site


@dataclass
class NextJs:
    """Where it listens, and what it has taken."""

    site: Site
    url: str
    secret: str

    @property
    def events(self) -> list[Received]:
        return self.site.events

    def names_of(self, generation: str) -> list[str]:
        """Its events, as they came."""
        return [each.event.event for each in self.events if each.event.generation_id == generation]


@contextlib.asynccontextmanager
async def receiving(now_ms: Callable[[], int]) -> AsyncIterator[NextJs]:
    """Serve it while the block runs. Without uvicorn's own loop, which looks each tenth of a second whether it is over."""
    secret = make_secret()
    site = Site(secret, now_s=lambda: now_ms() / 1000)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(site.app(), log_level="error", lifespan="off", ws="none"))
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[door])
        try:
            yield NextJs(site, f"http://127.0.0.1:{door.getsockname()[1]}", secret)
        finally:
            await _close(server)


async def _close(server: uvicorn.Server) -> None:
    for listener in server.servers:
        listener.close()
    connections = server.server_state.connections
    for connection in list(connections):
        connection.shutdown()
    while connections or server.server_state.tasks:
        await asyncio.sleep(0.001)
    for listener in server.servers:
        await listener.wait_closed()


@contextlib.contextmanager
def listening_beside(app: Any) -> Iterator[str]:
    """Serve an ASGI application in a thread, for tests that are not async: its URL."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, name="beside", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@contextlib.contextmanager
def receiving_beside() -> Iterator[NextJs]:
    """The receiver in a thread, in real time."""
    secret = make_secret()
    site = Site(secret)
    with listening_beside(site.app()) as url:
        yield NextJs(site, url, secret)
