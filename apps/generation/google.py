"""What the three clients share: bounded calls in Google's envelope of errors, and downloads. No retries: those are the
queue's."""

import contextlib
import math
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx2
import msgspec

from .limits import CONNECT_S_MAX
from .media import media_of
from .provider_errors import ProviderError, ProviderLimitedError, ProviderRefusedError, SubmissionInDoubtError
from .settings import Host
from .video import Media

T = TypeVar("T")

ANSWER_BYTES_MAX: Final = 1_000_000
INLINE_BYTES_MAX: Final = 96 * 1024 * 1024
"""Of an answer that carries the video itself, as base64."""
LIMIT_AFTER_S: Final = 30.0
LIMIT_AFTER_S_MAX: Final = 86_400.0
REDIRECTS_MAX: Final = 3
GOOGLE_HOSTS: Final = ("googleapis.com", "googleusercontent.com", "google.com")
"""Where a download may be redirected to, they and their subdomains; the key goes to the provider's own host only."""
MEDIA_TYPES: Final = ("video/mp4", "video/webm", "application/octet-stream")

PERMANENT: Final = frozenset({400, 401, 403, 404, 405, 409, 413, 422})
UNSURE: Final = frozenset({502, 504})
"""A gateway does not know what became of the request."""
RPC_PERMANENT: Final = {
    3: "INVALID_ARGUMENT", 5: "NOT_FOUND", 6: "ALREADY_EXISTS", 7: "PERMISSION_DENIED", 9: "FAILED_PRECONDITION",
    11: "OUT_OF_RANGE", 12: "UNIMPLEMENTED", 16: "UNAUTHENTICATED",
}  # fmt: skip
RPC_TEMPORARY: Final = {
    1: "CANCELLED", 2: "UNKNOWN", 4: "DEADLINE_EXCEEDED", 8: "RESOURCE_EXHAUSTED", 10: "ABORTED", 13: "INTERNAL",
    14: "UNAVAILABLE", 15: "DATA_LOSS",
}  # fmt: skip


class Detail(msgspec.Struct, frozen=True):
    """One of an error's details; only `RetryInfo` says anything to us."""

    retry_delay: str = msgspec.field(default="", name="retryDelay")


class Status(msgspec.Struct, frozen=True):
    """An error as Google tells it: in an answer the code is HTTP's, in an operation it is gRPC's."""

    code: int | str = 0
    message: str = ""
    status: str = ""
    details: list[Detail] = []


class _Envelope(msgspec.Struct, frozen=True):
    error: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that has ended, for the log and the figures."""

    provider: str
    verb: str
    """submit, poll or download."""
    outcome: str
    """ok, limited, refused, in doubt or failed."""
    status: int | None = None


def say_nothing(_call: Call) -> None:
    """For those who keep no figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request; the path is below the provider's base address."""

    verb: str
    method: str
    path: str
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    bytes_max: int = ANSWER_BYTES_MAX


class Google:
    """One of Google's services: its address, how it is shown our key, and the client that reaches it."""

    def __init__(
        self, name: str, client: httpx2.AsyncClient, host: Host, *, auth: Mapping[str, str], official: str,
        storage: str = "", tell: Callable[[Call], None] = say_nothing,
    ) -> None:  # fmt: skip
        self.name = name
        self.host = host
        self._client = client
        self._auth = dict(auth)
        self._official = official
        """The origin that its answers name, whatever address we reach it by."""
        self._tell = tell
        self._storage = storage
        """Another origin that our key is for."""
        self._origin = _origin(host.base_url)

    async def ask(self, ask: Ask, shape: type[T]) -> T:
        """One call, its answer read as `shape`. `ProviderError`; of a submission `SubmissionInDoubtError` where nobody
        can know whether it was taken."""
        with self._told(ask.verb):
            body = await self._send(ask)
            try:
                return msgspec.json.decode(body, type=shape)
            except msgspec.DecodeError as error:
                raise self._unsure(ask.verb, f"the answer cannot be read: {error}") from error

    @asynccontextmanager
    async def open(self, address: str) -> AsyncGenerator[Media]:
        """A video at an address that the provider named. Redirects are followed to Google's hosts alone."""
        with self._told("download"):
            async with self._follow(self._reach(address)) as response:
                declared = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                if declared not in MEDIA_TYPES:
                    raise ProviderError(self.name, f"the download is `{declared[:60]}`, and no video")
                async with media_of(self.name, response.aiter_bytes()) as media:
                    yield media

    def failed(self, status: Status) -> tuple[str, bool]:
        """The code of an operation that failed, and whether the next would as well."""
        code = status.code if isinstance(status.code, int) else 0
        if code in RPC_PERMANENT:
            return status.status or RPC_PERMANENT[code], True
        return RPC_TEMPORARY.get(code, status.status or str(status.code)), False

    async def _send(self, ask: Ask) -> bytes:
        headers = {"accept": "application/json", **self._auth, **ask.headers}
        request = self._client.build_request(
            ask.method, self.host.base_url + ask.path, headers=headers, json=ask.body, timeout=self._timeout(ask.verb)
        )
        try:
            response = await self._client.send(request, stream=True)
            async with contextlib.aclosing(response):
                body = await self._read(response, ask.bytes_max)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:  # nothing was sent
            raise ProviderError(self.name, f"cannot be reached: {error}", code="unreachable") from error
        except httpx2.HTTPError as error:
            problem = f"the connection was lost: {type(error).__name__}"
            raise self._unsure(ask.verb, problem, code="unreachable") from error
        if response.status_code >= 300:
            raise self._refused(ask.verb, response.status_code, response.headers, body)
        return body

    def _timeout(self, verb: str) -> httpx2.Timeout:
        """An order sets out soon or not at all; how long its answer takes is up to the provider."""
        usual = self._client.timeout
        if verb != "submit":
            return usual
        return httpx2.Timeout(connect=CONNECT_S_MAX, pool=CONNECT_S_MAX, write=usual.write, read=usual.read)

    async def _read(self, response: httpx2.Response, bytes_max: int) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > bytes_max:
                raise ProviderRefusedError(self.name, f"the answer is longer than {bytes_max:,} bytes")
        return bytes(body)

    def _refused(self, verb: str, status: int, headers: httpx2.Headers, body: bytes) -> ProviderError:
        try:
            told = msgspec.json.decode(body, type=_Envelope).error
        except msgspec.DecodeError:
            told = Status(message="no readable reason")
        words = told.message
        for secret in self._auth.values():
            words = words.replace(secret.removeprefix("Bearer "), "***")
        if status == 429:
            after_s = wait_s(told, headers)
            return ProviderLimitedError(self.name, words, after_s=after_s, status=status, code=told.status)
        if status in PERMANENT:
            return ProviderRefusedError(self.name, words, status=status, code=told.status)
        if status in UNSURE:
            return self._unsure(verb, words, status=status, code=told.status)
        return ProviderError(self.name, words, status=status, code=told.status)

    def _unsure(self, verb: str, problem: str, *, status: int | None = None, code: str = "") -> ProviderError:
        kind = SubmissionInDoubtError if verb == "submit" else ProviderError
        return kind(self.name, problem, status=status, code=code)

    @asynccontextmanager
    async def _follow(self, address: str) -> AsyncGenerator[httpx2.Response]:
        for _ in range(REDIRECTS_MAX + 1):
            auth = self._auth if _origin(address) in (self._origin, self._storage) else {}
            request = self._client.build_request("GET", address, headers={"accept": "*/*", **auth})
            try:
                response = await self._client.send(request, stream=True)
            except httpx2.HTTPError as error:
                raise ProviderError(self.name, f"cannot be reached: {error}", code="unreachable") from error
            async with contextlib.aclosing(response):
                if response.status_code < 300:
                    yield response
                    return
                if response.status_code >= 400:
                    body = await self._read(response, ANSWER_BYTES_MAX)
                    raise self._refused("download", response.status_code, response.headers, body)
                address = self._reach(urljoin(address, response.headers.get("location", "")))
        raise ProviderError(self.name, f"more than {REDIRECTS_MAX} redirects")

    def _reach(self, address: str) -> str:
        """The address by which we get there. `ProviderRefusedError` for one that is nobody's we know."""
        origin = _origin(address)
        if origin in (self._official, self._storage) and self._origin != self._official:  # we reach it by a proxy
            return self.host.base_url + address[len(origin) :]
        host = urlsplit(address).hostname or ""
        is_googles = any(host == each or host.endswith(f".{each}") for each in GOOGLE_HOSTS)
        if origin == self._origin or (is_googles and origin.startswith("https://")):
            return address
        raise ProviderRefusedError(self.name, f"names a video at `{origin[:100]}`, which is not Google's")

    @contextlib.contextmanager
    def _told(self, verb: str) -> Generator[None]:
        try:
            yield
        except ProviderError as error:
            self._tell(Call(provider=self.name, verb=verb, outcome=_outcome(error), status=error.status))
            raise
        self._tell(Call(provider=self.name, verb=verb, outcome="ok"))


def new_client(timeout_s: float, transport: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncClient:
    """The client all providers share: a timeout on everything; redirects are our own business, and no proxy of the
    environment's is asked."""
    timeout = httpx2.Timeout(timeout_s, connect=min(10.0, timeout_s))
    return httpx2.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False, transport=transport)


def wait_s(told: Status, headers: httpx2.Headers) -> float:
    """How long a 429 asks us to wait: its `RetryInfo`, else `Retry-After` in seconds, else a while."""
    texts = [each.retry_delay.removesuffix("s") for each in told.details if each.retry_delay]
    for text in [*texts, headers.get("retry-after", "")]:
        with contextlib.suppress(ValueError):
            if math.isfinite(wait := float(text)):
                return min(max(wait, 0.0), LIMIT_AFTER_S_MAX)
    return LIMIT_AFTER_S


def _outcome(error: ProviderError) -> str:
    match error:
        case ProviderLimitedError():
            return "limited"
        case ProviderRefusedError():
            return "refused"
        case SubmissionInDoubtError():
            return "in doubt"
        case _:
            return "failed"


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
