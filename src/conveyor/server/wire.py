"""One wire, as raw ASGI: finds the endpoint, lets the caller in, reads the body, calls, records changes, and says
errors in the wire's own words.

A request whose token is known waits for nothing but its body and its handler.
"""

from __future__ import annotations

import asyncio
import os
import re
import traceback
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.types import Receive, Scope, Send

from conveyor.audit.act import Act
from conveyor.audit.trail import Audit
from conveyor.model.errors import ConveyorError, NotFoundError
from conveyor.model.events import RequestFailed
from conveyor.model.refusals import ForbiddenError, InvalidRequestError, UnauthenticatedError
from conveyor.server.endpoint import JSON, JSON_ONLY, NOWHERE, SAFE_HEADERS, Answer, Call, Dialect, Endpoint
from conveyor.server.gate import Gate
from conveyor.server.reading import check_head, read_body, read_pieces
from conveyor.server.rights import NOBODY, Caller, Right
from conveyor.server.routes import Routes
from conveyor.server.watch import Watch

if TYPE_CHECKING:
    from conveyor.app import Conveyor

WRITE_S: Final = 5.0
"""A client that takes nothing of a stream for so long is hung up on, unless the answer is more patient."""
REQUEST_S: Final = 60.0
"""For the body to arrive and the handler to answer."""
_LATE: Final = "the request took too long"
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
_SAFE_LINES: Final = b"".join(b"%b: %b\r\n" % pair for pair in SAFE_HEADERS)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
RESPOND: Final = "conveyor.respond"
"""What our own server offers beyond ASGI: `respond(status, head, body)` writes a whole answer, or says False."""
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Wire:
    """The endpoints below a prefix."""

    def __init__(
        self, prefix: str, endpoints: Sequence[Endpoint], dialect: Dialect, *, app: Conveyor, gate: Gate, audit: Audit
    ) -> None:
        self.prefix = prefix
        self.below = prefix + "/"
        self.endpoints = endpoints
        self._routes = Routes(endpoints)
        self._cut = len(prefix)
        self._dialect = dialect
        self._app = app
        self._store = app.store
        self._gate = gate
        self._audit = audit
        self._watch = Watch(REQUEST_S)
        self._mark = os.urandom(6).hex()
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An `http` scope below the prefix."""
        call = Call(self._app, self._store, scope, f"{self._mark}{next(self._numbers):010x}")
        try:
            answer = await self._answer(call, receive)
        except asyncio.CancelledError:
            if not call.is_late:
                raise
            self._watch.forgive()
            answer = await self._fail(
                InvalidRequestError(_LATE, hint=f"{REQUEST_S:g} s is the limit", status=408), call
            )
        except Exception as error:  # noqa: BLE001 whatever it is, the client is told no more than is good for it
            answer = await self._fail(error, call)
        await _send(answer, scope, receive, send, call.request_id)

    async def _answer(self, call: Call, receive: Receive) -> Answer:
        method, headers = call.method, call.headers
        found = self._routes.find(method, _raw_path(call.scope)[self._cut :])
        endpoint = call.endpoint = found.endpoint or NOWHERE
        call.path = found.path
        if endpoint.right is not None or endpoint.scope == "token":
            address = call.address
            call.caller = self._gate.recall(method, headers, address) or await self._gate.look_up(headers, address)
            if endpoint is NOWHERE:
                raise _nothing_for(method, found.methods)
            _check_right(endpoint, call.caller, call.path)
        if not endpoint.is_unhurried:
            self._watch.add(call)
        try:
            if method in _WITH_BODY:
                check_head(headers, endpoint.body_max)
                if endpoint.streams:
                    call.pieces = read_pieces(receive, endpoint.body_max, patience_s=REQUEST_S)
                else:
                    call.body = await read_body(receive, endpoint.body_max)
                if call.body and endpoint.content_types:
                    _check_type(headers, endpoint.content_types)
            if call.action is None:
                return await endpoint.handle(call)
            return await self._change(call.action, call)
        finally:
            self._watch.drop(call)

    async def _change(self, action: str, call: Call) -> Answer:
        """What a store changes is recorded with the change; the rest, and a look, is recorded after it. Who comes with
        a ticket is known only then."""
        act = Act(self._audit, call.caller, action, lambda: _target_of(call), request_id=call.request_id)
        try:
            with act.watch():
                answer = await call.endpoint.handle(call)
        finally:
            await act.write_rest()
        if not act.records and call.action is not None:
            await self._record(call, call.action, "ok")
        return answer

    async def _fail(self, error: Exception, call: Call) -> Answer:
        if not isinstance(error, ConveyorError):
            self._app.emit(_failed(error, call))
        if call.action is not None and call.caller is not NOBODY:
            try:
                await self._record(call, call.action, error.code if isinstance(error, ConveyorError) else "internal")
            except Exception as second:  # noqa: BLE001 what cannot be recorded is answered as not done
                return self._dialect.render(second, call.request_id)
        if isinstance(error, UnauthenticatedError):
            return self._dialect.refuse_stranger(error, call.request_id, call.headers, call.scope["path"])
        return self._dialect.render(error, call.request_id)

    async def _record(self, call: Call, action: str, result: str) -> None:
        target = _target_of(call) or ""
        await self._audit.record(call.caller, action, target, result=result, request_id=call.request_id)


def _target_of(call: Call) -> str | None:
    """None if neither the handler nor the path says it."""
    if call.target is not None:
        return call.target
    return "/".join(value for name, value in call.path.items() if name != "account") or None


async def _send(answer: Answer, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
    extensions = scope.get("extensions")
    if extensions and RESPOND in extensions and answer.stream is None and scope["method"] != "HEAD":
        head = _head_of(answer, scope, request_id)
        if head is not None and extensions[RESPOND](answer.status, head, answer.body):
            return
    headers = [
        (b"content-type", answer.content_type),
        *SAFE_HEADERS,
        (b"x-request-id", request_id.encode()),
        *answer.headers,
    ]
    if answer.stream is None:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    if scope.get("scheme") == "https":
        headers.append(_HSTS)
    body = b"" if scope["method"] == "HEAD" else answer.body
    streams = answer.stream is not None and scope["method"] != "HEAD"
    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": streams})
        if answer.stream is not None and streams:
            await _send_stream(answer.stream, answer.patience_s or WRITE_S, receive, send)
    except (RuntimeError, OSError):  # the client has gone; where it has not, the server says that we did not end
        return
    finally:
        if answer.stream is not None:
            await _close(answer.stream)


async def _close(stream: AsyncIterator[bytes]) -> None:
    """It may hold a file, also if nobody read it."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()


def _head_of(answer: Answer, scope: Scope, request_id: str) -> bytes | None:
    """The head's lines; None where a value holds what the server itself must look at."""
    head = b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b" % (
        answer.content_type, len(answer.body), request_id.encode(), _SAFE_LINES
    )  # fmt: skip
    if answer.headers:
        head += b"".join(b"%b: %b\r\n" % pair for pair in answer.headers)
        if _CONTROL.search(b"".join(part for pair in answer.headers for part in pair)):
            return None
    if scope.get("scheme") == "https":
        head += b"%b: %b\r\n" % _HSTS
    return None if _CONTROL.search(answer.content_type) else head


async def _send_stream(stream: AsyncIterator[bytes], patience_s: float, receive: Receive, send: Send) -> None:
    """Until the stream ends, the client goes away, or takes nothing for so long."""
    speaking = asyncio.create_task(_speak(stream, patience_s, send))
    leaving = asyncio.create_task(_wait_until_gone(receive))
    try:
        await asyncio.wait({speaking, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (speaking, leaving):
            task.cancel()
        await asyncio.gather(speaking, leaving, return_exceptions=True)


async def _speak(stream: AsyncIterator[bytes], patience_s: float, send: Send) -> None:
    async for piece in stream:
        async with asyncio.timeout(patience_s):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _raw_path(scope: Mapping[str, Any]) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if raw is None else raw


def _nothing_for(method: str, methods: Iterable[str]) -> ConveyorError:
    if methods:
        allowed = ", ".join(sorted(methods))
        return InvalidRequestError(f"{method[:16]} is not for this path", hint=f"it takes {allowed}", status=405)
    return NotFoundError("there is nothing at this path", hint="see /api/v1/openapi.json")


def _check_right(endpoint: Endpoint, caller: Caller, path: Mapping[str, str]) -> None:
    right = endpoint.right
    if caller.job is not None or endpoint.scope == "job":
        if endpoint.scope != "job" or not caller.may_watch(path["job"]):
            raise ForbiddenError(right or Right.READ)
        return
    if right is None:
        return
    if right not in caller.rights or (endpoint.scope == "store" and caller.queues is not None):
        raise ForbiddenError(right)


def _check_type(headers: Mapping[bytes, bytes], allowed: tuple[str, ...]) -> None:
    given = headers.get(b"content-type")
    if given is None or (given == JSON and allowed is JSON_ONLY):
        return
    kind = given.partition(b";")[0].strip().lower().decode("latin-1")
    if kind not in allowed:
        raise InvalidRequestError(
            f"a body of type `{kind[:64]}` is not taken here", hint=f"send {' or '.join(allowed)}", status=415
        )


def _failed(error: Exception, call: Call) -> RequestFailed:
    """Where it happened, and of which kind: an error's own words may hold what was sent."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(each.filename).name}:{each.lineno}" for each in reversed(frames[-6:]))
    name = f"{call.endpoint.method} {call.endpoint.path}"
    return RequestFailed(request_id=call.request_id, endpoint=name, error=type(error).__qualname__, where=where)
