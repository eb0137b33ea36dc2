"""What all five adapters share: one bounded request, and the reading of answers. No retries: the queue owns those."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Protocol, TypeVar

import httpx2
import msgspec

from . import clock
from .errors import KeyRefusedError, MalformedAnswerError, ProviderError, RateLimitedError
from .settings import Host

T = TypeVar("T")

ANSWER_BYTES_MAX: Final = 2_000_000
RATE_LIMIT_AFTER_S: Final = 1.0
QUOTA_AFTER_S: Final = 3_600.0
AFTER_S_MAX: Final = 86_400.0


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's error, undressed: its code and its words."""

    code: str = ""
    message: str = ""


class ReadRefusal(Protocol):
    """How a provider's error body is read; it is asked only for statuses of 400 and above."""

    def __call__(self, body: bytes) -> Refusal: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    headers: httpx2.Headers
    body: bytes


class Provider:
    """One outside service: its name, its host, and the client that reaches it."""

    def __init__(self, name: str, client: httpx2.AsyncClient, host: Host) -> None:
        self.name = name
        self.model = host.model
        self._client = client
        self._host = host

    @property
    def key(self) -> str:
        """For the header that carries it, and for nothing else."""
        return self._host.key.reveal()

    async def ask(self, ask: Ask) -> Answer:
        """Send one request and read a bounded answer."""
        request = self._client.build_request(
            ask.method,
            self._host.base_url + ask.path,
            params=dict(ask.query) or None,
            headers={"accept": "application/json", **ask.headers},
            json=ask.body,
        )
        try:
            response = await self._client.send(request, stream=True)
            try:
                return Answer(status=response.status_code, headers=response.headers, body=await self._read(response))
            finally:
                await response.aclose()
        except httpx2.TimeoutException as error:
            raise ProviderError(self.name, "no answer in time", code="timeout") from error
        except httpx2.HTTPError as error:
            raise ProviderError(self.name, f"cannot be reached: {error}", code="unreachable") from error

    async def _read(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                raise MalformedAnswerError(self.name, f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
        return bytes(body)

    def read(self, answer: Answer, shape: type[T], read_refusal: ReadRefusal) -> T:
        """The answer in its shape, or the error it amounts to."""
        if answer.status >= 300:
            raise self.refused(answer, self.undress(answer, read_refusal))
        try:
            return msgspec.json.decode(answer.body, type=shape)
        except msgspec.DecodeError as error:
            raise MalformedAnswerError(
                self.name, f"the answer cannot be read: {error}", status=answer.status
            ) from error

    def undress(self, answer: Answer, read_refusal: ReadRefusal) -> Refusal:
        """The code and words of an error answer; one that is no JSON has none."""
        try:
            refusal = read_refusal(answer.body)
        except msgspec.DecodeError:
            return Refusal(message="no readable reason")
        words = refusal.message.replace(self.key, "***") if self.key else refusal.message
        return Refusal(code=refusal.code, message=words)

    def refused(self, answer: Answer, refusal: Refusal, *, after_s: float = RATE_LIMIT_AFTER_S) -> ProviderError:
        """Classify by status, where a provider has no finer code."""
        if answer.status == 429:
            wait = retry_after_s(answer.headers, default=after_s)
            return RateLimitedError(self.name, refusal.message, after_s=wait, code=refusal.code)
        kind = KeyRefusedError if answer.status in (401, 402, 403) else ProviderError
        return kind(self.name, refusal.message, status=answer.status, code=refusal.code)

    def malformed(self, problem: str) -> MalformedAnswerError:
        """An answer that can be read and still makes no sense."""
        return MalformedAnswerError(self.name, problem)


def retry_after_s(headers: httpx2.Headers, *, default: float) -> float:
    """`Retry-After` in seconds or as a date; the default if there is none or it makes no sense."""
    text = headers.get("retry-after", "").strip()
    try:
        wait = float(text)
    except ValueError:
        wait = _until(text, default=default)
    return min(max(wait, 0.0), AFTER_S_MAX) if math.isfinite(wait) else default


def _until(text: str, *, default: float) -> float:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return default
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - clock.now()).total_seconds()


def new_client(timeout_s: float, transport: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncClient:
    """The client all adapters share: a timeout on everything, no redirects."""
    timeout = httpx2.Timeout(timeout_s, connect=min(10.0, timeout_s))
    limits = httpx2.Limits(max_connections=20, max_keepalive_connections=10)
    return httpx2.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False, transport=transport)
