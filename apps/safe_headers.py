"""The headers with which every page of an app is served: nothing of other sites runs in it, and it runs in none of
theirs."""

from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN: Final[Mapping[str, str]] = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
STRICT: Final = "max-age=31536000"


class SafeHeaders:
    """Puts them on every answer; what says nothing of caching is not kept.

    `policy` are the directives of the Content-Security-Policy that differ from `OWN`; `https` says that browsers come
    by HTTPS alone.
    """

    def __init__(self, app: ASGIApp, *, policy: Mapping[str, str] | None = None, https: bool = False) -> None:
        self._app = app
        directives = {**OWN, **(policy or {})}
        self._headers = {
            "content-security-policy": "; ".join(f"{name} {value}" for name, value in directives.items()),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            **({"strict-transport-security": STRICT} if https else {}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, send_safe if scope["type"] == "http" else send)
