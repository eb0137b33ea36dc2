"""`/api/v1/ws`: the events of `/events` over a WebSocket, and `/api/v1/jobs/{job}/ws`: what one job says. They only
speak: a client that says something is hung up on.

{"id": "3f2a9c-17", "event": "conveyor.queue.measured", "data": {...}}
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Final, TypeAlias

import msgspec
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from conveyor.audit.trail import Audit
from conveyor.jobs.job import read_job_id
from conveyor.model.ids import MessageId
from conveyor.model.refusals import ForbiddenError
from conveyor.server.endpoint import SAFE_HEADERS, Answer, Dialect, QueryParams
from conveyor.server.gate import Gate, check_site
from conveyor.server.rest.hub import Ending, Entry
from conveyor.server.rest.operation import read_parameters
from conveyor.server.rest.streams import StreamAsked, Streams
from conveyor.server.rest.watching import LOOK, Saying, WatchAsked, check_watcher, read_after
from conveyor.server.rights import Caller, Right

PATH: Final = "/api/v1/ws"
OF_JOB: Final = re.compile("/api/v1/jobs/([0-9a-f]{32})/ws")
WRITE_S: Final = 5.0
"""A client that takes nothing for so long is hung up on."""
SPOKE: Final = 1003
_JOB_CODES: Final = {"end": (1000, "the job is over"), "shutdown": (1001, "shutdown"), "revoked": (1008, "revoked")}
_CODES: Final = {Ending.SHUTDOWN: 1001, Ending.REVOKED: 1008, Ending.SLOW: 1013}


Said: TypeAlias = tuple[Sequence[str], tuple[int, str] | None]
"""What is said in one go, and with what the socket is closed after it."""


class SocketRoute(BaseRoute):
    """The handshake: the page's origin, the token or the ticket, the right; then what is told until somebody hangs
    up."""

    def __init__(self, streams: Streams, gate: Gate, dialect: Dialect) -> None:
        self._streams = streams
        self._gate = gate
        self._dialect = dialect

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raise NotImplementedError

    async def _admit(self, scope: Scope, caller: Caller, query: QueryParams) -> AsyncGenerator[Said, None]:
        """What this caller is to be told. `ForbiddenError`, `InvalidRequestError`, `TooManyRequestsError`."""
        raise NotImplementedError

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            told = await self._admit(scope, *await self._identify(scope))
        except Exception as error:  # noqa: BLE001 the dialect tells nothing of an error that is none of ours
            await _deny(self._dialect.render(error, ""), scope, send)
            return
        await send({"type": "websocket.accept"})
        speaking = asyncio.create_task(_speak(told, send))
        hearing = asyncio.create_task(_hear(receive))
        try:
            done, _ = await asyncio.wait({speaking, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (speaking, hearing):
                task.cancel()
            await asyncio.gather(speaking, hearing, return_exceptions=True)
        if hearing in done and hearing.result():
            await send({"type": "websocket.close", "code": SPOKE, "reason": "this stream only speaks"})

    async def _identify(self, scope: Scope) -> tuple[Caller, QueryParams]:
        """`MisdirectedError`, `UnauthenticatedError`."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        check_site("GET", headers, always=True)
        query = QueryParams(scope["query_string"])
        ticket = query.get("ticket")
        if ticket is not None:
            return self._streams.tickets.redeem(ticket), query
        address = scope["client"][0] if scope.get("client") else ""
        return await self._gate.admit("GET", headers, address), query


class WebSocketRoute(SocketRoute):
    """The events of `/events`."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if scope["type"] == "websocket" and scope["path"] == PATH else Match.NONE), {}

    async def _admit(self, scope: Scope, caller: Caller, query: QueryParams) -> AsyncGenerator[Said, None]:
        if Right.READ not in caller.rights:
            raise ForbiddenError(Right.READ)
        asked = read_parameters(query, StreamAsked, but="ticket")
        self._streams.hub.check_room(caller)
        return self._tell(await self._streams.follow(caller, asked, asked.after))

    async def _tell(self, following: AsyncGenerator[list[Entry], None]) -> AsyncGenerator[Said, None]:
        async with contextlib.aclosing(following) as told:
            async for entries in told:
                ending = entries[-1].ending
                yield [_write(each) for each in entries], None if ending is None else (_CODES[ending], ending.value)


class JobSocketRoute(SocketRoute):
    """What one job says; closed with its end."""

    def __init__(self, streams: Streams, gate: Gate, dialect: Dialect, audit: Audit) -> None:
        super().__init__(streams, gate, dialect)
        self._audit = audit

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_ours = scope["type"] == "websocket" and OF_JOB.fullmatch(scope["path"]) is not None
        return (Match.FULL if is_ours else Match.NONE), {}

    async def _admit(self, scope: Scope, caller: Caller, query: QueryParams) -> AsyncGenerator[Said, None]:
        found = OF_JOB.fullmatch(scope["path"])
        assert found is not None, "it matched"
        check_watcher(caller, found[1])
        id = read_job_id(found[1])
        after, _ = read_after(read_parameters(query, WatchAsked, but="ticket").after)
        await self._streams.of_jobs.check_job(id)
        self._streams.of_jobs.check_room(caller, id)
        if caller.job is None:
            await self._audit.record(caller, LOOK, found[1], result="ok")
        return self._tell(caller, id, after)

    async def _tell(self, caller: Caller, id: MessageId, after: int) -> AsyncGenerator[Said, None]:
        async with contextlib.aclosing(self._streams.of_jobs.watch(caller, id, after)) as told:
            async for each in told:
                yield [_write_saying(each)], _JOB_CODES.get(each.data.get("reason", each.event))


async def _speak(told: AsyncGenerator[Said, None], send: Send) -> None:
    async with contextlib.aclosing(told):
        async for texts, close in told:
            for text in texts:
                async with asyncio.timeout(WRITE_S):
                    await send({"type": "websocket.send", "text": text})
            if close is not None:
                await send({"type": "websocket.close", "code": close[0], "reason": close[1]})
                return


async def _hear(receive: Receive) -> bool:
    """Whether the client said something, rather than hanging up."""
    kind: str = (await receive())["type"]
    return kind == "websocket.receive"


def _write_saying(said: Saying) -> str:
    return msgspec.json.encode({"id": said.id, "event": said.event or "heartbeat", "data": said.data}).decode()


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
