"""The way to a provider over HTTPS: whoever is cancelled while it opens leaves nothing open."""

import asyncio

import pytest

from conveyor_apps.concierge.errors import DeliveryError
from conveyor_apps.concierge.providers.wire import Ask, Wire

PATIENCE_S = 20.0

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("timeout_s", [PATIENCE_S, 0.2])
async def test_a_line_is_let_go_whoever_gives_up_while_it_speaks_of_tls(timeout_s: float) -> None:
    """The other side says nothing to our hello."""
    spoke, ended = asyncio.Event(), asyncio.Event()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(1)
            spoke.set()
            while await reader.read(65_536):
                pass
        except ConnectionError:
            pass  # a line may be cut, too
        finally:
            ended.set()
            writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    wire = Wire("far", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=timeout_s)
    try:
        asking = asyncio.create_task(wire.ask(Ask(method="GET", path="/")))
        async with asyncio.timeout(PATIENCE_S):
            await spoke.wait()
            if timeout_s == PATIENCE_S:
                asking.cancel()
            with pytest.raises((asyncio.CancelledError, DeliveryError)):
                await asking
            await ended.wait()
    finally:
        await wire.close()
        server.close()
        await server.wait_closed()
