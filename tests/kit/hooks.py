"""Receivers of webhooks on loopback, names that resolve to whatever a test says, and dialled addresses written down."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import cast

import httpcore2

PUBLIC = "93.184.215.14"
"""An address that nobody dials: `Lines` leads elsewhere."""


@dataclass
class Hit:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Listener:
    """Answers every request with what `answer` gives, as raw bytes; None hangs until the end."""

    answer: Callable[[int], bytes | None] = lambda _number: reply(200)
    hits: list[Hit] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    """The names that came with TLS."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.hits.append(Hit(head[0], headers, body))
            answer = self.answer(len(self.hits))
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def listening(listener: Listener, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    """On a port of its own."""
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Lines:
    """Resolves by a table, and leads every public address to one port of loopback."""

    names: dict[str, list[str]]
    port: int = 0
    resolved: list[str] = field(default_factory=list)
    dialled: list[tuple[str, int]] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        return self.names.get(host, [])

    async def dial(self, address: str, port: int) -> httpcore2.AsyncNetworkStream:
        self.dialled.append((address, port))
        backend = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())
        return await backend.connect_tcp("127.0.0.1", self.port)
