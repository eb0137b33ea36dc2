"""Receivers that misbehave: they hang, lead elsewhere, are gone, or fail before they take it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from conveyor import Conveyor
from conveyor.webhooks import EndpointDisabledError
from kit.programs import until, working

pytestmark = pytest.mark.anyio


class Receiver:
    """An HTTP server of few words: each request gets the next of its answers."""

    def __init__(self, answers: list[str]) -> None:
        self.answers = answers
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        self.requests.append(head + await reader.readexactly(length))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "hang":
            await reader.read()
        else:
            writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def receiving(*answers: str) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(answers))
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()


def configure(app: Conveyor) -> None:
    app.webhooks.configure(http=True, ports=None, allow=["127.0.0.0/8"], schedule=[0.1, 0.1])


async def log_says(app: Conveyor, holds: Callable[[str, list[int | None]], bool]) -> None:
    async def is_so() -> bool:
        found = await app.webhooks.deliveries()
        return bool(found) and holds(found[0].state, [each.status for each in found[0].tries])

    await until(is_so)


async def test_500_and_then_200(app: Conveyor) -> None:
    configure(app)
    async with receiving("500 No", "200 OK") as receiver, working(app):
        await app.webhooks.send(receiver.url, "order.paid", {"order": 7})
        await log_says(app, lambda state, tries: state == "delivered" and tries == [500, 200])
        assert len(receiver.requests) == 2
        ids = [
            line for each in receiver.requests for line in each.split(b"\r\n") if line.lower().startswith(b"webhook-id")
        ]
        assert len(ids) == 2 and len(set(ids)) == 1


async def test_a_redirect_is_not_followed(app: Conveyor) -> None:
    configure(app)
    async with receiving("200 OK") as other, receiving(f"302 Found\r\nLocation: {other.url}") as receiver, working(app):
        await app.webhooks.send(receiver.url, "order.paid", {"order": 7})
        await log_says(app, lambda state, tries: state == "failed" and tries == [302, 302, 302])
        assert other.requests == []


async def test_410_disables_at_once(app: Conveyor) -> None:
    configure(app)
    async with receiving("410 Gone") as receiver, working(app):
        await app.webhooks.send(receiver.url, "order.paid", {"order": 7})
        await log_says(app, lambda state, tries: state == "failed" and tries == [410])
        with pytest.raises(EndpointDisabledError):
            await app.webhooks.send(receiver.url, "order.paid", {"order": 8})


async def test_one_that_hangs_holds_up_only_itself(app: Conveyor) -> None:
    app.webhooks.configure(http=True, ports=None, allow=["127.0.0.0/8"], schedule=[], timeout="30s")
    async with receiving("hang") as deaf, receiving("200 OK") as receiver, working(app):
        for _ in range(6):  # more than are called at once
            await app.webhooks.send(deaf.url, "order.paid", {})
        await until(lambda: len(deaf.requests) == 4)
        await app.webhooks.send(receiver.url, "order.paid", {})
        await log_says(app, lambda state, _tries: state == "delivered")
        assert len(deaf.requests) == 4, "those hang still"
        assert all(each.tries == () for each in await app.webhooks.deliveries(url=deaf.url))
