"""A server in this process, on an SQLite file: real requests through the real ASGI stack, and its tokens."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx2

from conveyor import Conveyor
from conveyor.audit.trail import Audit
from conveyor.server.asgi import make_asgi
from conveyor.server.binding import LOOPBACK
from conveyor.server.endpoint import Endpoint
from conveyor.server.gate import Gate, Rates
from conveyor.server.hosts import HostGuard
from conveyor.server.problem import Problem
from conveyor.server.rights import Right
from conveyor.server.tokens import Doorman, Tokens
from conveyor.server.wire import Wire

ADMIN = "an-admin-token-of-enough-characters"
BASE = "http://127.0.0.1:8787"


class Client(httpx2.AsyncClient):
    """Speaks as somebody."""

    async def ask(self, method: str, path: str, token: str | None = ADMIN, **given: Any) -> httpx2.Response:
        headers = dict(given.pop("headers", {}))
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return await self.request(method, path, headers=headers, **given)


def client_of(asgi: Any, address: str = "127.0.0.1") -> Client:
    """As from this address."""
    return Client(transport=httpx2.ASGITransport(asgi, client=(address, 1234)), base_url=BASE)


@contextlib.asynccontextmanager
async def serving(app: Conveyor, *, rates: Rates | None = None, pepper: str | None = None) -> AsyncIterator[Client]:
    """All of it, as `conveyor serve` has it."""
    asgi = make_asgi(app, token=ADMIN, pepper=pepper, rates=rates)
    async with asgi.router.lifespan_context(asgi), client_of(HostGuard(asgi, LOOPBACK)) as client:
        yield client


def make_wire(app: Conveyor, endpoints: Sequence[Endpoint], *, rates: Rates | None = None, prefix: str = "/x") -> Wire:
    """A wire of a test's own, before an app that is open."""
    doorman = Doorman(Tokens(app.store), app.store, environment=ADMIN)
    gate = Gate(doorman, app.store.clock, rates=rates, emit=app.emit)
    return Wire(prefix, endpoints, Problem(), app=app, gate=gate, audit=Audit(app.store))


async def a_token(app: Conveyor, *rights: Right, queues: tuple[str, ...] | None = None, **given: Any) -> str:
    """A new one's secret."""
    _, secret = await Tokens(app.store).create("test", frozenset(rights), queues=queues, created_by="a test", **given)
    return str(secret)


def bytes_in(folder: Path) -> bytes:
    """All that the files of a folder hold."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
