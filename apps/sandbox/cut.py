"""Connections that break before the answer: the request was understood and done, and nobody will ever say so."""

from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

CUT: Final = "sandbox.cut"


class Cut(Response):
    """Answers nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Break the connection, and wait until it is broken."""
        cut = scope.get(CUT)
        if cut is None:
            raise ConnectionResetError("the sandbox cuts this connection")
        cut()
        while (await receive())["type"] != "http.disconnect":
            pass


class Severable:
    """Hands an application the way to cut its connection: ASGI itself has none, and uvicorn's `send` knows it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on."""
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        if transport is not None:
            scope[CUT] = transport.abort
        await self._app(scope, receive, send)
