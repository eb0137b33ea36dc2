"""One request and its answer: the host is resolved once, every address is looked at, and one of those is dialled. No
redirect is followed, no proxy of the environment is asked, and there is an end to the time and to the bytes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

import httpcore2
import msgspec

from conveyor.model.beside import WebhookFailedError, WebhookTargetError
from conveyor.webhooks.targets import Policy, check_addresses, check_url

DEADLINE_S: Final = 20.0
ANSWER_BYTES_MAX: Final = 65_536
DIALLED_MAX: Final = 2
"""So many addresses of a host are tried."""

_TROUBLE: Final = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    OSError,
    UnicodeError,  # of a name that no resolver takes
)

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host."""
Dial: TypeAlias = Callable[[str, int], Awaitable[httpcore2.AsyncNetworkStream]]
"""A connection to an address."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes
    """Its first `ANSWER_BYTES_MAX` bytes, as they came."""


class Courier:
    """Carries requests. `resolve`, `dial` and `tls` are for tests."""

    def __init__(
        self,
        policy: Policy,
        *,
        resolve: Resolve | None = None,
        dial: Dial | None = None,
        tls: ssl.SSLContext | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._policy = policy
        self._backend = _Guarded(policy, resolve or _resolve, dial or _dial)
        self._tls = tls
        self._deadline_s = deadline_s

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer, whatever its status. `WebhookTargetError`; `WebhookFailedError` if there is none."""
        check_url(url, self._policy)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._post(url, headers, body)
        except TimeoutError:
            raise WebhookFailedError(f"there was no whole answer within {self._deadline_s:g} s") from None
        except _TROUBLE as error:
            raise WebhookFailedError(f"{type(error).__name__}: {error}") from error

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        given = [(b"host", urlsplit(url).netloc.encode()), *((k.encode(), v.encode()) for k, v in headers.items())]
        async with (
            httpcore2.AsyncConnectionPool(ssl_context=self._tls, network_backend=self._backend) as pool,
            pool.stream("POST", url, headers=given, content=body) as response,
        ):
            received = bytearray()
            async for piece in response.aiter_stream():
                received += piece
                if len(received) >= ANSWER_BYTES_MAX:
                    break
            shown = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(status=response.status, headers=shown, body=bytes(received[:ANSWER_BYTES_MAX]))


class _Guarded(httpcore2.AsyncNetworkBackend):
    """The only way out: it looks before it dials."""

    def __init__(self, policy: Policy, resolve: Resolve, dial: Dial) -> None:
        self._policy = policy
        self._resolve = resolve
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 the library's own parameter
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        found = await self._resolve(host.strip("[]"), port)
        check_addresses(found, self._policy)
        problem: Exception | None = None
        for address in found[:DIALLED_MAX]:
            try:
                return await self._dial(address, port)
            except (OSError, httpcore2.NetworkError) as error:
                problem = error
        assert problem is not None, "there was at least one address"
        raise problem

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 the library's own parameter
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise WebhookTargetError("it is a socket in the file system")


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _dial(address: str, port: int) -> httpcore2.AsyncNetworkStream:
    backend = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())  # a stand-in where there is no anyio
    return await backend.connect_tcp(address, port)
