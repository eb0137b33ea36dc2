"""What a worker tells of an order, and the ways by which that reaches the server that browsers talk to."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, Protocol

import httpx2
import msgspec

from . import clock
from .errors import ReportError
from .signing import sign

PATH: Final = "/api/queue-progress"
TIMEOUT_S: Final = 10.0
TRIES: Final = 6
PAUSE_S: Final = 0.25


class Kind(StrEnum):
    """What has happened."""

    STARTED = "started"
    PROGRESS = "progress"
    OUTPUT = "output"
    """One output is in the bucket, whole."""
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"

    @property
    def must_arrive(self) -> bool:
        """The others may be lost: a later one says more."""
        return self is not Kind.PROGRESS


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /api/queue-progress`."""

    order: str
    generation: int
    kind: Kind
    attempt: int = 1
    output: str | None = None
    fraction: float = 0.0
    """Of the output, 0 to 1."""
    speed: float | None = None
    size: int = 0
    """Of an output that is done, in bytes."""
    error: str | None = None
    """For people."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says to a report."""

    stop: bool = False
    """Nobody waits for this order any more: end it."""


class Reporter(Protocol):
    """The way to the server."""

    async def tell(self, report: Report) -> bool:
        """Whether the worker is to stop. `ReportError` if what must arrive did not."""
        ...


class LocalReporter:
    """The server is this very process."""

    def __init__(self, take: Callable[[Report], Awaitable[bool]]) -> None:
        self._take = take

    async def tell(self, report: Report) -> bool:
        return await self._take(report)


class WebhookReporter:
    """The server is reached by a signed POST."""

    def __init__(self, client: httpx2.AsyncClient, url: str, secret: bytes) -> None:
        self._client = client
        self._url = url + PATH
        self._secret = secret

    async def tell(self, report: Report) -> bool:
        for number in range(TRIES if report.kind.must_arrive else 1):
            if number:
                await clock.pause(PAUSE_S * 2 ** (number - 1))
            answer = await self._post(report)
            if answer is not None:
                return answer.stop
        if report.kind.must_arrive:
            raise ReportError(f"`{self._url}` took no `{report.kind}` of order {report.order}")
        return False

    async def _post(self, report: Report) -> Answer | None:
        body = msgspec.json.encode(report)
        headers = {"content-type": "application/json", **sign(self._secret, body)}
        try:
            response = await self._client.post(self._url, content=body, headers=headers, follow_redirects=False)
            return msgspec.json.decode(response.content, type=Answer) if response.status_code == 200 else None
        except (httpx2.HTTPError, msgspec.MsgspecError):
            return None


class NearestReporter:
    """By hand where the server is this process, else by its webhook."""

    def __init__(self, is_serving: Callable[[], bool], local: Reporter, far: Reporter) -> None:
        self._is_serving = is_serving
        self._local = local
        self._far = far

    async def tell(self, report: Report) -> bool:
        return await (self._local if self._is_serving() else self._far).tell(report)
