"""The ASGI application that `conveyor serve` runs: both wires, `/healthz`, `/readyz`, and the app's own HTTP behind
them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from conveyor.audit.trail import Audit
from conveyor.model.errors import ConveyorError
from conveyor.model.events import Emit, Event
from conveyor.server import cloudflare, rest
from conveyor.server.cloudflare.dialect import Envelope
from conveyor.server.endpoint import SAFE_HEADERS
from conveyor.server.gate import Gate, Rates
from conveyor.server.problem import Problem
from conveyor.server.rest.streams import Streams
from conveyor.server.rest.websocket import JobSocketRoute, WebSocketRoute
from conveyor.server.tokens import Doorman, Tokens
from conveyor.server.wire import Wire
from conveyor.store.protocol import Store
from conveyor.store.routed import RoutedStore
from conveyor.store.routing import HOME

if TYPE_CHECKING:
    from conveyor.app import Conveyor, Hook

READY_S: Final = 1.5
"""A store that takes longer to answer is not ready; whoever asks hears so within 2 s."""
_HEADERS: Final = {name.decode(): value.decode() for name, value in SAFE_HEADERS}


def make_asgi(
    app: Conveyor, *, token: str | None = None, pepper: str | None = None, rates: Rates | None = None
) -> Site:
    """The whole HTTP side of one process; its lifespan opens and closes the app. `token` is one that is good for
    everything and stands in no store, `pepper` what the hashes of tokens and of the audit trail are keyed with."""
    tokens = Tokens(app.store, pepper=pepper)
    streams = Streams(app, tokens, epoch=os.urandom(4).hex())
    app.emit = _to_both(app.emit, streams.hub.publish)
    gate = Gate(Doorman(tokens, app.store, environment=token), app.store.clock, rates=rates, emit=app.emit)
    audit = Audit(app.store, pepper=pepper)
    wires = make_wires(app, gate, tokens, audit, streams)

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=_HEADERS)

    async def readyz(_request: Request) -> Response:
        away = await _find_away(app.store)
        problem = away.pop(HOME, None)
        facts = {"away": away} if away else {}
        if problem is None:
            return JSONResponse({"status": "ready", **facts}, headers=_HEADERS)
        return JSONResponse({"status": "not ready", **problem, **facts}, status_code=503, headers=_HEADERS)

    @contextlib.asynccontextmanager
    async def lifespan(_starlette: Starlette) -> AsyncIterator[None]:
        async with app, _lifespan_of(app.http):
            streams.open()
            yield
            await streams.close()

    routes: list[BaseRoute] = [
        WebSocketRoute(streams, gate, Problem()),
        JobSocketRoute(streams, gate, Problem(), audit),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
    ]
    if app.http is not None:
        routes.append(Mount("/", app=app.http))
    asgi = Site(wires, streams, app.on_stop, routes=routes, lifespan=lifespan)
    asgi.router.redirect_slashes = False  # a path is what it says
    return asgi


class Site(Starlette):
    """Starlette, but for the wires' requests: they go straight to their wire."""

    def __init__(self, wires: Sequence[Wire], streams: Streams, on_stop: Hook | None, **given: Any) -> None:
        super().__init__(**given)
        self.wires = wires
        self._streams = streams
        self._on_stop = on_stop

    async def stop(self) -> None:
        """End the streams, ours and those of the application: the server waits for all that runs."""
        await self._streams.close()
        if self._on_stop is not None:
            await self._on_stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            for wire in self.wires:
                if path.startswith(wire.below):
                    await wire(scope, receive, send)
                    return
        await super().__call__(scope, receive, send)


def _to_both(one: Emit, other: Emit) -> Emit:
    def emit(event: Event) -> None:
        one(event)
        other(event)

    return emit


def make_wires(app: Conveyor, gate: Gate, tokens: Tokens, audit: Audit, streams: Streams) -> list[Wire]:
    """Cloudflare's and ours."""
    of_account = [replace(each, path="/accounts/{account}" + each.path) for each in cloudflare.endpoints()]
    return [
        Wire("/client/v4", [*of_account, *cloudflare.root_endpoints()], Envelope(), app=app, gate=gate, audit=audit),
        Wire("/api/v1", rest.endpoints(tokens, audit, streams), Problem(), app=app, gate=gate, audit=audit),
    ]


def _lifespan_of(asgi: Any) -> contextlib.AbstractAsyncContextManager[Any]:
    """That of the application's own HTTP: Starlette does not run it for what is mounted."""
    lifespan = getattr(getattr(asgi, "router", None), "lifespan_context", None)
    return contextlib.nullcontext() if lifespan is None else lifespan(asgi)


async def _find_away(store: Store) -> dict[str, dict[str, str]]:
    """The stores that do not answer, by name, and why. Without the home store we are not ready; of the others only
    their own queues rest."""
    parts: Mapping[str, Store] = store.parts if isinstance(store, RoutedStore) else {HOME: store}
    problems = await asyncio.gather(*(_find_problem(part) for part in parts.values()))
    return {name: problem for name, problem in zip(parts, problems, strict=True) if problem is not None}


async def _find_problem(store: Store) -> dict[str, str] | None:
    """Why it does not answer, or None. The reason's code and hint only: no path, no trace."""
    try:
        await asyncio.wait_for(store.list_owners(), READY_S)
    except TimeoutError:
        return {"code": "store_slow", "hint": f"the store did not answer within {READY_S:g} s"}
    except ConveyorError as error:
        return {"code": error.code, "hint": error.hint}
    return None
