"""One request and its answer: the token, patience with what passes (429, 5xx, broken connections), and the errors of
the other side in our words."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any, Final, TypeVar

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
from conveyor.remote.address import Address, read_token
from conveyor.remote.wire import Envelope, Problem

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
    " `consume`: see `conveyor tokens list`"
)


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
        content = None if body is None else msgspec.json.encode(body)
        patience_s = self.address.patience_s if patience_s is None else patience_s
        give_up_at = self._clock.monotonic() + patience_s
        pause_s, is_unsure = BACKOFF_S_FIRST, False
        while True:
            try:
                answer = await self._ask(method, path, content, query, key)
                result: T = self._read(answer, type)
                return result
            except _Passing as error:
                is_unsure = is_unsure or error.is_unsure
                wait_s = max(pause_s * (0.5 + self._chance.random() / 2), error.retry_after_s or 0.0)
                if (is_unsure and not is_repeatable) or self._clock.monotonic() + wait_s > give_up_at:
                    doubt = "; what was sent may have arrived" if is_unsure and key is not None else ""
                    raise self._unavailable(f"{error}{doubt}", error.hint, error.retry_after_s) from error
            await self._clock.sleep(wait_s)
            pause_s = min(pause_s * 2, BACKOFF_S_MAX)

    async def _ask(
        self, method: str, path: str, content: bytes | None, query: Mapping[str, str] | None, key: str | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        if self._http is None:
            raise StoreClosedError
        headers = {"Idempotency-Key": key} if key is not None else {}
        if content is not None:
            headers["Content-Type"] = "application/json"
        url = f"{self.address.base}/accounts/{self.address.account_id}{path}"
        try:
            async with self._http.stream(method, url, content=content, params=query, headers=headers) as response:
                parts, size = [], 0
                async for part in response.aiter_bytes():
                    size += len(part)
                    if size > ANSWER_BYTES_MAX:
                        raise self._unavailable("its answer is too long to be one")
                    parts.append(part)
                return response.status_code, response.headers, b"".join(parts)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise _Passing(f"no connection ({_words(error)})") from error
        except httpx2.HTTPError as error:
            raise _Passing(f"the answer was lost ({_words(error)})", is_unsure=True) from error

    def _read(self, answer: tuple[int, Mapping[str, str], bytes], type: type[T] | Any) -> T:
        status, headers, body = answer
        try:
            envelope = msgspec.json.decode(body, type=Envelope) if body else Envelope(success=200 <= status < 300)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            envelope = Envelope()
        if 200 <= status < 300 and envelope.success:
            try:
                return msgspec.json.decode(envelope.result, type=type)
            except msgspec.MsgspecError as error:
                raise self._unavailable(f"its answer is not what it should be: {error}") from error
        problem = (envelope.errors or [Problem()])[0]
        raise self._refusal(status, headers, problem)

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
