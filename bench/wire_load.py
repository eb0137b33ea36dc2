"""A load of HTTP requests over keep-alive connections: a few microseconds a request, so that the server is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from time import perf_counter
from typing import Final, TypeAlias

Script: TypeAlias = Generator[bytes, bytes, None]
"""Yields requests, is sent the body of each answer, and ends if it has nothing more to ask."""

HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = b"content-length:"


class Refused(Exception):
    """An answer that is no success: a figure from it would mean nothing."""


def post(path: str, body: bytes, *, token: str, host: str) -> bytes:
    """A whole request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class Connection(asyncio.Protocol):
    """Asks what its script says, one after the other; `done` tells how it ended."""

    def __init__(self, script: Script, seen: Callable[[float], None]) -> None:
        self._script = script
        self._seen = seen
        self._buffer = b""
        self._asked_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask(next(self._script))

    def _ask(self, request: bytes) -> None:
        assert self._transport is not None
        self._asked_at = perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(HEAD_END)
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        at = head.find(LENGTH)
        length = int(head[at + len(LENGTH) :].partition(b"\r\n")[0]) if at >= 0 else 0
        body_end = head_end + len(HEAD_END) + length
        if len(self._buffer) < body_end:
            return
        body, self._buffer = self._buffer[head_end + len(HEAD_END) : body_end], self._buffer[body_end:]
        if not head.startswith(b"http/1.1 200"):
            self._end(Refused(f"{head[:40]!r}: {body[:300]!r}"))
            return
        self._seen(perf_counter() - self._asked_at)
        try:
            self._ask(self._script.send(body))
        except StopIteration:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Refused(f"the server hung up: {exc}"))

    def _end(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
        if self._transport is not None:
            self._transport.close()


async def load(port: int, scripts: list[Script]) -> list[float]:
    """Run all scripts at once, each on a connection of its own: the seconds that each answer took, as they came."""
    took: list[float] = []
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda script=script: Connection(script, took.append), "127.0.0.1", port))[1]  # type: ignore[misc]  # bound early
        for script in scripts
    ]
    await asyncio.gather(*(connection.done for connection in connections))
    return took


async def steady(port: int, requests: list[bytes], *, rate: float, connections: int) -> list[float]:
    """Requests at a fixed rate, whether or not the one before was answered: seconds from when each was due."""
    loop = asyncio.get_running_loop()
    due: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
    took: list[float] = []

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (item := await due.get()) is not None:
            at, request = item
            writer.write(request)
            head = (await reader.readuntil(HEAD_END)).lower()
            length = int(head[head.find(LENGTH) + len(LENGTH) :].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            if not head.startswith(b"http/1.1 200"):
                raise Refused(repr(body[:300]))
            took.append(loop.time() - at)
        writer.close()

    askers = [asyncio.create_task(ask()) for _ in range(connections)]
    start = loop.time() + 0.1
    for number, request in enumerate(requests):
        at = start + number / rate
        await asyncio.sleep(max(0.0, at - loop.time()))
        due.put_nowait((at, request))
    for _ in askers:
        due.put_nowait(None)
    await asyncio.gather(*askers)
    return took
