"""One wire, as raw ASGI: finds the endpoint, lets the caller in, reads the body, calls, records changes, and says
errors in the wire's own words.

A request whose token is known waits for nothing but its body and its handler.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from conveyor.model.errors import ConveyorError, NotFoundError
from conveyor.model.events import RequestFailed
from conveyor.model.refusals import ForbiddenError, InvalidRequestError, UnauthenticatedError
from conveyor.server.audit import Audit
from conveyor.server.endpoint import SAFE_HEADERS, Answer, Call, Dialect, Endpoint
from conveyor.server.gate import Gate
from conveyor.server.reading import check_head, read_body
from conveyor.server.rights import NOBODY, Caller
from conveyor.server.routes import Routes

if TYPE_CHECKING:
    from conveyor.app import Conveyor

REQUEST_S: Final = 60.0
"""For the body to arrive and the handler to answer."""
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Wire:
    """The endpoints below a prefix."""

    def __init__(
        self, prefix: str, endpoints: Sequence[Endpoint], dialect: Dialect, *, app: Conveyor, gate: Gate, audit: Audit
    ) -> None:
        self.prefix = prefix
        self.endpoints = endpoints
        self._routes = Routes(endpoints)
        self._skips = prefix.count("/") + 1
        self._dialect = dialect
        self._app = app
        self._gate = gate
        self._audit = audit
        self._mark = os.urandom(6).hex()
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An `http` scope below the prefix."""
        request_id = f"{self._mark}{next(self._numbers):010x}"
        visit = _Visit(scope, request_id)
        try:
            answer = await self._answer(visit, receive)
        except Exception as error:  # noqa: BLE001 whatever it is, the client is told no more than is good for it
            answer = await self._fail(error, visit)
        await _send(answer, scope, send, request_id)

    async def _answer(self, visit: _Visit, receive: Receive) -> Answer:
        scope, headers, method = visit.scope, visit.headers, visit.method
        found = self._routes.find(method, _raw_path(scope).split("/")[self._skips :])
        visit.endpoint = endpoint = found.endpoint
        if endpoint is None or endpoint.right is not None or endpoint.scope == "token":
            address = scope["client"][0] if scope.get("client") else ""
            visit.caller = self._gate.recall(method, headers, address) or await self._gate.look_up(headers, address)
        if endpoint is None:
            raise _nothing_for(method, found.methods)
        visit.path = self._routes.name(endpoint, found.values)
        _check_right(endpoint, visit.caller)
        visit.patience = asyncio.timeout(REQUEST_S)
        async with visit.patience:
            body = b""
            if method in _WITH_BODY:
                check_head(headers, endpoint.body_max)
                body = await read_body(receive, endpoint.body_max)
                if body and endpoint.content_types:
                    _check_type(headers, endpoint.content_types)
            visit.call = call = Call(
                app=self._app,
                store=self._app.store,
                endpoint=endpoint,
                caller=visit.caller,
                path=visit.path,
                raw_query=scope["query_string"],
                headers=headers,
                body=body,
                request_id=visit.request_id,
                scheme=scope.get("scheme", "http"),
            )
            answer = await endpoint.handle(call)
        if endpoint.action is not None:
            await self._record(visit, "ok")
        return answer

    async def _fail(self, error: Exception, visit: _Visit) -> Answer:
        if isinstance(error, TimeoutError) and visit.patience is not None and visit.patience.expired():
            error = InvalidRequestError("the request took too long", hint=f"{REQUEST_S:g} s is the limit", status=408)
        if not isinstance(error, ConveyorError):
            self._app.emit(_failed(error, visit.endpoint, visit.request_id))
        if visit.endpoint is not None and visit.endpoint.action is not None and visit.caller is not NOBODY:
            try:
                await self._record(visit, error.code if isinstance(error, ConveyorError) else "internal")
            except Exception as second:  # noqa: BLE001 what cannot be recorded is answered as not done
                return self._dialect.render(second, visit.request_id)
        if isinstance(error, UnauthenticatedError):
            return self._dialect.refuse_stranger(error, visit.request_id, visit.headers, visit.scope["path"])
        return self._dialect.render(error, visit.request_id)

    async def _record(self, visit: _Visit, result: str) -> None:
        assert visit.endpoint is not None and visit.endpoint.action is not None
        target = visit.call.target if visit.call is not None else None
        if target is None:
            target = "/".join(value for name, value in visit.path.items() if name != "account")
        await self._audit.record(
            visit.caller, visit.endpoint.action, target, result=result, request_id=visit.request_id
        )


class _Visit:
    """How far a request has come."""

    __slots__ = ("call", "caller", "endpoint", "headers", "method", "path", "patience", "request_id", "scope")

    def __init__(self, scope: Scope, request_id: str) -> None:
        self.scope = scope
        self.request_id = request_id
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.method: str = scope["method"]
        self.caller: Caller = NOBODY
        self.endpoint: Endpoint | None = None
        self.path: dict[str, str] = {}
        self.patience: asyncio.Timeout | None = None
        self.call: Call | None = None


class WireRoute(BaseRoute):
    """A wire's place among Starlette's routes."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._below = wire.prefix + "/"

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """By the prefix alone."""
        is_ours = scope["type"] == "http" and scope["path"].startswith(self._below)
        return (Match.FULL if is_ours else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._wire(scope, receive, send)


async def _send(answer: Answer, scope: Scope, send: Send, request_id: str) -> None:
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
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body, "more_body": answer.stream is not None})
    if answer.stream is not None:
        await _send_stream(answer, send)


async def _send_stream(answer: Answer, send: Send) -> None:
    assert answer.stream is not None
    async for piece in answer.stream:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _raw_path(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    return scope["path"] if raw is None else raw.partition(b"?")[0].decode("latin-1")


def _nothing_for(method: str, methods: Iterable[str]) -> ConveyorError:
    if methods:
        allowed = ", ".join(sorted(methods))
        return InvalidRequestError(f"{method[:16]} is not for this path", hint=f"it takes {allowed}", status=405)
    return NotFoundError("there is nothing at this path", hint="see /api/v1/openapi.json")


def _check_right(endpoint: Endpoint, caller: Caller) -> None:
    right = endpoint.right
    if right is None:
        return
    if right not in caller.rights or (endpoint.scope == "store" and caller.queues is not None):
        raise ForbiddenError(right)


def _check_type(headers: dict[bytes, bytes], allowed: tuple[str, ...]) -> None:
    given = headers.get(b"content-type")
    if given is None:
        return
    kind = given.partition(b";")[0].strip().lower().decode("latin-1")
    if kind not in allowed:
        raise InvalidRequestError(
            f"a body of type `{kind[:64]}` is not taken here", hint=f"send {' or '.join(allowed)}", status=415
        )


def _failed(error: Exception, endpoint: Endpoint | None, request_id: str) -> RequestFailed:
    """Where it happened, and of which kind: an error's own words may hold what was sent."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(each.filename).name}:{each.lineno}" for each in reversed(frames[-6:]))
    name = "-" if endpoint is None else f"{endpoint.method} {endpoint.path}"
    return RequestFailed(request_id=request_id, endpoint=name, error=type(error).__qualname__, where=where)
