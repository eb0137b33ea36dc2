"""`/api/v1/ws`: the events of `/events` over a WebSocket. It only speaks: a client that says something is hung up on.

    {"id": "3f2a9c-17", "event": "conveyor.queue.measured", "data": {...}}
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import msgspec
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from conveyor.model.refusals import ForbiddenError
from conveyor.server.endpoint import SAFE_HEADERS, Answer, Dialect, QueryParams
from conveyor.server.gate import Gate, check_site
from conveyor.server.rest.hub import Ending, Entry
from conveyor.server.rest.operation import read_parameters
from conveyor.server.rest.streams import StreamAsked, Streams
from conveyor.server.rights import Caller, Right

PATH: Final = "/api/v1/ws"
WRITE_S: Final = 5.0
"""A client that takes nothing for so long is hung up on."""
SPOKE: Final = 1003
_CODES: Final = {Ending.SHUTDOWN: 1001, Ending.REVOKED: 1008, Ending.SLOW: 1013}


class WebSocketRoute(BaseRoute):
    """The handshake: the page's origin, the token or the ticket, the right; then events until somebody hangs up."""

    def __init__(self, streams: Streams, gate: Gate, dialect: Dialect) -> None:
        self._streams = streams
        self._gate = gate
        self._dialect = dialect

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if scope["type"] == "websocket" and scope["path"] == PATH else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            caller, asked = await self._admit(scope)
            self._streams.hub.check_room(caller)
        except Exception as error:  # noqa: BLE001 the dialect tells nothing of an error that is none of ours
            await _deny(self._dialect.render(error, ""), scope, send)
            return
        await send({"type": "websocket.accept"})
        speaking = asyncio.create_task(self._speak(caller, asked, send))
        hearing = asyncio.create_task(_hear(receive))
        try:
            done, _ = await asyncio.wait({speaking, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (speaking, hearing):
                task.cancel()
            await asyncio.gather(speaking, hearing, return_exceptions=True)
        if hearing in done and hearing.result():
            await send({"type": "websocket.close", "code": SPOKE, "reason": "this stream only speaks"})

    async def _admit(self, scope: Scope) -> tuple[Caller, StreamAsked]:
        """`MisdirectedError`, `UnauthenticatedError`, `ForbiddenError`, `InvalidRequestError`."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        check_site("GET", headers, always=True)
        query = QueryParams(scope["query_string"])
        ticket = query.get("ticket")
        if ticket is None:
            address = scope["client"][0] if scope.get("client") else ""
            caller = await self._gate.admit("GET", headers, address)
        else:
            caller = self._streams.tickets.redeem(ticket)
        if Right.READ not in caller.rights:
            raise ForbiddenError(Right.READ)
        return caller, read_parameters(query, StreamAsked, but="ticket")

    async def _speak(self, caller: Caller, asked: StreamAsked, send: Send) -> None:
        async with contextlib.aclosing(self._streams.follow(caller, asked, asked.after)) as told:
            async for entries in told:
                for entry in entries:
                    async with asyncio.timeout(WRITE_S):
                        await send({"type": "websocket.send", "text": _write(entry)})
                ending = entries[-1].ending
                if ending is not None:
                    await send({"type": "websocket.close", "code": _CODES[ending], "reason": ending.value})


async def _hear(receive: Receive) -> bool:
    """Whether the client said something, rather than hanging up."""
    return (await receive())["type"] == "websocket.receive"


def _write(entry: Entry) -> str:
    event = msgspec.json.encode(entry.name or "conveyor.stream.heartbeat")
    known = msgspec.json.encode(entry.id or None)
    return (b'{"id":' + known + b',"event":' + event + b',"data":' + entry.data + b"}").decode()


async def _deny(answer: Answer, scope: Scope, send: Send) -> None:
    """Before the handshake is done: as plain HTTP where the server can, else as a bare 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    said = [(b"content-type", answer.content_type), *SAFE_HEADERS, *answer.headers]
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": said})
    await send({"type": "websocket.http.response.body", "body": answer.body})
