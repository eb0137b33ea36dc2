"""A server that listens, in this event loop: for what an ASGI transport cannot do, streams above all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn

from conveyor import Conveyor
from conveyor.server.asgi import make_asgi
from conveyor.server.binding import LOOPBACK
from conveyor.server.hosts import HostGuard
from conveyor.server.listening import BoundedProtocol
from kit.served import ADMIN


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def online(app: Conveyor) -> AsyncIterator[str]:
    """The server's address, as in `http://127.0.0.1:4711`."""
    asgi = make_asgi(app, token=ADMIN)
    config = uvicorn.Config(
        HostGuard(asgi, LOOPBACK), http=BoundedProtocol, ws="websockets-sansio", lifespan="on", log_level="warning"
    )
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await asgi.stop()
            server.should_exit = True
            await serving
