"""Which Host headers are answered, so that a web page cannot reach a loopback server under a name of its own
(rebinding)."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from conveyor.server.endpoint import SAFE_HEADERS

SEEN_MAX: Final = 256
"""Spellings of good hosts, with their ports, that need not be read again."""
_REFUSAL: Final = {"code": "misdirected", "hint": "this server does not answer to that Host; see `--allow-host`"}
_HEADERS: Final = {name.decode(): value.decode() for name, value in SAFE_HEADERS}


class HostGuard:
    """421 for a Host that is not on the list."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str]) -> None:
        self._app = app
        self._allowed = allowed
        self._seen: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not self._is_allowed(scope):
            refusal = JSONResponse(_REFUSAL, 421, headers=_HEADERS)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return False
        if hosts[0] in self._seen:
            return True
        is_allowed = _without_port(hosts[0].decode("latin-1")).lower() in self._allowed
        if is_allowed and len(self._seen) < SEEN_MAX:
            self._seen.add(hosts[0])
        return is_allowed


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
