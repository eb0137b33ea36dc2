"""One request and its answer: the token, patience with what passes (429, 5xx, broken connections), and the errors of
the other side in our words."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any, Final, NamedTuple, TypeVar

import httpx2
import msgspec

from conveyor.model.clock import Clock
from conveyor.model.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    QueueUnavailableError,
    StoreClosedError,
)
from conveyor.remote.address import PREFIX, Address, read_token
from conveyor.remote.wire import Envelope, Problem, Said

T = TypeVar("T")

BACKOFF_S_FIRST: Final = 0.2
BACKOFF_S_MAX: Final = 10.0
ANSWER_S: Final = 30.0
"""For an answer to begin; a push waits for the other side's COMMIT."""
CONNECT_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 128_000_000
"""A hundred messages of the largest size, each sign escaped."""
_PASSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_RIGHTS_HINT: Final = (
    "a token for Cloudflare needs `Queues Read` and `Queues Write`; one for a conveyor the rights `read`, and `send` or"
    " `consume`, and `admin` for tokens and the audit trail: see `conveyor tokens list`"
)


class _Request(NamedTuple):
    method: str
    url: str
    body: object
    query: Mapping[str, str] | None
    headers: dict[str, str]


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """The API behind an address, on the event loop in which it was opened."""

    def __init__(self, address: Address, clock: Clock, chance: Random) -> None:
        self.address = address
        self._clock = clock
        self._chance = chance
        self._http: httpx2.AsyncClient | None = None

    def open(self) -> None:
        """Connections are made when they are needed. `InvalidSettingError` without a token."""
        self._http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {read_token(self.address)}", "User-Agent": "conveyor"},
            timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S),
            limits=httpx2.Limits(max_connections=16, max_keepalive_connections=8),
            trust_env=False,
            follow_redirects=False,
        )

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    def __repr__(self) -> str:
        return f"<Client {self.address.shown}>"

    async def call(
        self,
        method: str,
        path: str,
        type: type[T] | Any,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        key: str | None = None,
        is_repeatable: bool = True,
        patience_s: float | None = None,
    ) -> T:
        """`result` of the answer, tried again for `patience_s` (None: the address's).

        `path` is below the account. What may not be done twice (`is_repeatable=False`) is tried again only after a
        refusal or without a connection. `QueueUnavailableError` if it stays so, `NotFoundError`, `ConflictError` or
        `InvalidError` as the other side says.
        """
        url = f"{self.address.base}/accounts/{self.address.account_id}{path}"
        request = _Request(method, url, body, query, {} if key is None else {"Idempotency-Key": key})
        answer = await self._ask_until(request, patience_s, is_repeatable=is_repeatable, is_push=key is not None)
        envelope = msgspec.json.decode(answer.body, type=Envelope) if answer.body else Envelope()
        result: T = self._decode(envelope.result, type)
        return result

    async def call_ours(
        self, method: str, path: str, type: type[T] | Any, *, body: object = None,
        query: Mapping[str, str] | None = None, tag: str | None = None, is_repeatable: bool = True,
    ) -> tuple[T, str]:  # fmt: skip
        """As `call`, of another conveyor's own API: `path` is below `/api/v1`. The answer, and its version; `tag` is
        the version that an edit was made from."""
        headers = {} if tag is None else {"If-Match": tag}
        request = _Request(method, f"{self.address.base.removesuffix(PREFIX)}/api/v1{path}", body, query, headers)
        answer = await self._ask_until(request, None, is_repeatable=is_repeatable, is_push=False)
        return self._decode(answer.body or b"null", type), answer.headers.get("etag", "")

    async def _ask_until(
        self, request: _Request, patience_s: float | None, *, is_repeatable: bool, is_push: bool
    ) -> _Answer:
        patience_s = self.address.patience_s if patience_s is None else patience_s
        give_up_at = self._clock.monotonic() + patience_s
        pause_s, is_unsure = BACKOFF_S_FIRST, False
        while True:
            try:
                return self._checked(await self._ask(request))
            except _Passing as error:
                is_unsure = is_unsure or error.is_unsure
                wait_s = max(pause_s * (0.5 + self._chance.random() / 2), error.retry_after_s or 0.0)
                if (is_unsure and not is_repeatable) or self._clock.monotonic() + wait_s > give_up_at:
                    doubt = "; what was sent may have arrived" if is_unsure and is_push else ""
                    raise self._unavailable(f"{error}{doubt}", error.hint, error.retry_after_s) from error
            await self._clock.sleep(wait_s)
            pause_s = min(pause_s * 2, BACKOFF_S_MAX)

    async def _ask(self, request: _Request) -> _Answer:
        if self._http is None:
            raise StoreClosedError
        content, headers = None, request.headers
        if request.body is not None:
            content, headers = msgspec.json.encode(request.body), headers | {"Content-Type": "application/json"}
        sending = self._http.stream(request.method, request.url, content=content, params=request.query, headers=headers)
        try:
            async with sending as response:
                parts, size = [], 0
                async for part in response.aiter_bytes():
                    size += len(part)
                    if size > ANSWER_BYTES_MAX:
                        raise self._unavailable("its answer is too long to be one")
                    parts.append(part)
                return _Answer(response.status_code, response.headers, b"".join(parts))
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise _Passing(f"no connection ({_words(error)})") from error
        except httpx2.HTTPError as error:
            raise _Passing(f"the answer was lost ({_words(error)})", is_unsure=True) from error

    def _checked(self, answer: _Answer) -> _Answer:
        """The answer, if it is a good one."""
        is_good = 200 <= answer.status < 300
        try:
            said = msgspec.json.decode(answer.body or b"{}", type=Said)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            is_good, said = False, Said()
        if is_good and said.success:
            return answer
        problem = said.errors[0] if said.errors else Problem(message=said.detail or "")
        raise self._refusal(answer.status, answer.headers, problem)

    def _decode(self, body: bytes | msgspec.Raw, type: type[T] | Any) -> T:
        try:
            result: T = msgspec.json.decode(body, type=type)
        except msgspec.MsgspecError as error:
            raise self._unavailable(f"its answer is not what it should be: {error}") from error
        return result

    def _refusal(self, status: int, headers: Mapping[str, str], problem: Problem) -> Exception:
        words = _clean(problem.message) or f"HTTP status {status}"
        if status in _PASSES or status >= 500:
            retry_after_s = self._read_retry_after(headers.get("retry-after"))
            if status == 429:
                return _Passing(f"HTTP status 429, {words}", "it asks us to send less", retry_after_s)
            return _Passing(f"HTTP status {status}, {words}", "", retry_after_s, is_unsure=True)
        if status in (401, 403):
            return TokenRefusedError(self.address.shown, f"it refuses the token ({words})", hint=_RIGHTS_HINT)
        if not 400 <= status < 500:
            return self._unavailable(f"it answers with HTTP status {status}", "is `api=` the address of an API?")
        kind = {404: NotFoundError, 409: ConflictError}.get(status, InvalidError)
        return kind(words, hint=f"says {self.address.shown}", status=status, remote_code=problem.code)

    def _read_retry_after(self, text: str | None) -> float | None:
        """Seconds, or a date."""
        if not text:
            return None
        try:
            return max(0.0, float(text))
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._clock.now_ms() / 1000)
        except (ValueError, TypeError):
            return None

    def _unavailable(self, problem: str, hint: str = "", retry_after_s: float | None = None) -> QueueUnavailableError:
        return QueueUnavailableError(self.address.shown, problem, hint=hint, retry_after_s=retry_after_s)


class TokenRefusedError(QueueUnavailableError):
    """Nobody knows it there, or it lacks the right."""


class _Passing(Exception):
    """What may be otherwise in a moment."""

    def __init__(
        self, problem: str, hint: str = "", retry_after_s: float | None = None, *, is_unsure: bool = False
    ) -> None:
        super().__init__(problem)
        self.hint = hint
        self.retry_after_s = retry_after_s
        self.is_unsure = is_unsure
        """What was asked may have been done all the same."""


def _words(error: Exception) -> str:
    """What the library says, or the name of the error where it says nothing."""
    return _clean(str(error)) or type(error).__name__


def _clean(text: str) -> str:
    """The other side's words, on one line."""
    return "".join(each if each.isprintable() else " " for each in text)[:500].strip()
