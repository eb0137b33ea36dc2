"""One bounded HTTP request, and what is known where it fails: whether the provider can have taken it, or not."""

import asyncio
import functools
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx2
import msgspec

from conveyor_apps.concierge.errors import UnknownError

from .trouble import ProviderDownError, say

T = TypeVar("T")

ANSWER_BYTES_MAX: Final = 1_048_576
AFTER_S_MAX: Final = 86_400.0
CONNECT_S_MAX: Final = 10.0
KEEP_ALIVE_S: Final = 2.0
"""Shorter than servers wait, so that none hangs up while we begin to speak."""
CONNECTIONS: Final = 50

UNSENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.InvalidURL,
)
"""Failures before the first byte of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    json: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    headers: httpx2.Headers
    body: bytes

    def read(self, shape: type[T]) -> T | None:
        """The body in this shape; None if it has another."""
        try:
            return msgspec.json.decode(self.body, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def retry_after_s(self, default: float) -> float:
        """`Retry-After` in seconds, bounded; the default if there is none or it makes no sense."""
        try:
            wait = float(self.headers.get("retry-after", ""))
        except ValueError:
            return default
        return min(max(wait, 0.0), AFTER_S_MAX) if math.isfinite(wait) else default


@functools.cache
def _trust() -> ssl.SSLContext:
    """The system's certificates: reading them takes longer than a request."""
    return httpx2.create_ssl_context(trust_env=False)


class _Opened:
    """What was opened for one request, and is not yet a connection of the client's: it lets go of a line on which it is
    interrupted while it speaks of TLS."""

    def __init__(self) -> None:
        self._line: Any = None

    async def note(self, event: str, facts: Mapping[str, Any]) -> None:
        """As httpcore tells what it does."""
        if event == "connection.connect_tcp.complete":
            self._line = facts["return_value"]
        elif event == "connection.start_tls.complete":
            self._line = None

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._line is not None:
            await self._line.aclose()


class Wire:
    """The way to one provider."""

    def __init__(self, name: str, base_url: str, *, timeout_s: float, auth: tuple[str, str] | None = None) -> None:
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._client = httpx2.AsyncClient(
            verify=_trust(),
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_S_MAX, timeout_s)),
            limits=httpx2.Limits(max_connections=CONNECTIONS, keepalive_expiry=KEEP_ALIVE_S),
            auth=auth,
            trust_env=False,
            follow_redirects=False,
        )

    async def ask(self, ask: Ask) -> Answer:
        """Send it and read the answer. `ProviderDownError` if nothing was sent, `UnknownError` if something was."""
        opened = _Opened()
        request = self._client.build_request(
            ask.method,
            self._base_url + ask.path,
            params=dict(ask.query) or None,
            headers={"accept": "application/json", "accept-encoding": "identity", **ask.headers},
            data=None if ask.form is None else dict(ask.form),
            json=ask.json,
            extensions={"trace": opened.note},
        )
        try:
            async with asyncio.timeout(self._timeout_s), opened:
                response = await self._client.send(request, stream=True)
                try:
                    return Answer(
                        status=response.status_code, headers=response.headers, body=await self._read(response)
                    )
                finally:
                    await response.aclose()
        except UNSENT as error:
            raise ProviderDownError(
                self._name, f"cannot be reached: {type(error).__name__}"
            ) from None  # it knows the request
        except (httpx2.HTTPError, TimeoutError) as error:
            raise UnknownError(say(self._name, f"no answer: {type(error).__name__}")) from None  # it knows the request

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()

    async def _read(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                raise UnknownError(say(self._name, f"the answer is longer than {ANSWER_BYTES_MAX:,} bytes"))
        return bytes(body)
