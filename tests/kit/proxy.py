"""A TCP proxy that misbehaves on demand, on a thread of its own: what lies between a client and its server."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator
from enum import Enum
from typing import Final

CHUNK_BYTES: Final = 65_536
DRIP_S: Final = 0.05


class Mode(Enum):
    """What happens to what comes by."""

    THROUGH = "through"
    HANG = "hang"
    """Connections stay, and nothing comes through: half-open, as after a pulled cable."""
    CUT_BEFORE_REPLY = "cut before reply"
    """The server gets the request; before its answer comes through, both ends are cut."""
    CUT_AFTER_REQUEST = "cut after request"
    """The client is cut as soon as its request is out; the server's answer finds nobody."""
    DRIP = "drip"
    """A few bytes at a time."""
    REFUSE = "refuse"
    """Whoever connects is sent away; who is here, stays."""


class Proxy:
    """Before one port of loopback. `share` of the chunks misbehave as `mode` says."""

    def __init__(self, target: int, *, seed: int = 11) -> None:
        self.mode = Mode.THROUGH
        self.share = 1.0
        self.port = 0
        self.cuts = 0
        self._target = target
        self._dice = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._ways: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = self._loop.create_task(self._lead(reader, writer))
        self._ways.add(way)
        way.add_done_callback(self._ways.discard)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode is Mode.REFUSE:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        both = [
            asyncio.ensure_future(self._carry(reader, back, is_request=True)),
            asyncio.ensure_future(self._carry(there, writer, is_request=False)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for each in (writer, back):
                each.transport.abort()
            await asyncio.gather(writer.wait_closed(), back.wait_closed(), return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool) -> None:
        """One direction, until it is cut."""
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                mode = self.mode if self._dice.random() < self.share else Mode.THROUGH
                if mode is Mode.HANG:
                    await asyncio.Event().wait()
                if mode is Mode.CUT_BEFORE_REPLY and not is_request:
                    self.cuts += 1
                    return
                if mode is Mode.DRIP:
                    for at in range(0, len(chunk), 16):
                        writer.write(chunk[at : at + 16])
                        await writer.drain()
                        await asyncio.sleep(DRIP_S)
                else:
                    writer.write(chunk)
                    await writer.drain()
                if mode is Mode.CUT_AFTER_REQUEST and is_request:
                    self.cuts += 1
                    return


@contextlib.contextmanager
def a_proxy(target: int, *, seed: int = 11) -> Iterator[Proxy]:
    proxy = Proxy(target, seed=seed)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
