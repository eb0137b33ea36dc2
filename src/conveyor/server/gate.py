"""Who comes in: the token, how often it may, and whether a web page of somebody else's is behind it.

Nothing here waits for the store, but for a token that was not seen for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from conveyor.model.clock import Clock
from conveyor.model.events import AccessRefused, Emit
from conveyor.model.refusals import MisdirectedError, TooManyRequestsError, UnauthenticatedError
from conveyor.server.rates import Buckets, Failures
from conveyor.server.rights import Caller
from conveyor.server.tokens import Doorman

FAILURES_MAX: Final = 10
FAILURES_S: Final = 60.0
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})
_BEARER: Final = b"bearer "


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Requests a second, and at once."""

    token: float = 50_000
    token_burst: float = 100_000
    address: float = 50_000
    address_burst: float = 100_000


def read_rates(a_second: float | None) -> Rates:
    """The same for a token and an address; twice as many at once."""
    if a_second is None:
        return Rates()
    return Rates(token=a_second, token_burst=2 * a_second, address=a_second, address_burst=2 * a_second)


class Gate:
    """Lets callers in, one request at a time."""

    def __init__(self, doorman: Doorman, clock: Clock, *, rates: Rates | None = None, emit: Emit) -> None:
        rates = rates or Rates()
        self._emit = emit
        self._doorman = doorman
        self._by_token = Buckets(clock, rates.token, rates.token_burst)
        self._by_address = Buckets(clock, rates.address, rates.address_burst)
        self._failures = Failures(clock, FAILURES_MAX, FAILURES_S)

    def recall(self, method: str, headers: Mapping[bytes, bytes], address: str) -> Caller | None:
        """The caller, if its token was seen lately. `MisdirectedError` for a page of another site,
        `TooManyRequestsError`."""
        if b"origin" in headers or b"sec-fetch-site" in headers:
            check_site(method, headers)
        wait_s = self._by_address.take(address)
        if wait_s:
            raise TooManyRequestsError(wait_s)
        caller = self._doorman.recall(read_bearer(headers), address)
        if caller is not None:
            self._count(caller)
        return caller

    async def look_up(self, headers: Mapping[bytes, bytes], address: str) -> Caller:
        """After `recall` knew nobody: ask the store. `UnauthenticatedError`; `TooManyRequestsError` for an address that
        has failed too often, before anything is looked up; `StoreError`."""
        presented = read_bearer(headers)
        if not presented:
            raise UnauthenticatedError
        wait_s = self._failures.wait_s(address)
        if wait_s:
            raise TooManyRequestsError(wait_s)
        try:
            caller = await self._doorman.look_up(presented, address)
        except UnauthenticatedError:
            self._failures.add(address)
            self._emit(AccessRefused(address=address))
            raise
        self._count(caller)
        return caller

    async def admit(self, method: str, headers: Mapping[bytes, bytes], address: str) -> Caller:
        """Both in one: for what is no endpoint, as a WebSocket's handshake."""
        return self.recall(method, headers, address) or await self.look_up(headers, address)

    def _count(self, caller: Caller) -> None:
        wait_s = self._by_token.take(caller.token_id or "")
        if wait_s:
            raise TooManyRequestsError(wait_s)


def read_bearer(headers: Mapping[bytes, bytes]) -> bytes:
    """The token that came along, or nothing: as a bearer, or as Cloudflare's old key with an e-mail address."""
    given = headers.get(b"authorization")
    if given is None:
        return headers[b"x-auth-key"] if b"x-auth-key" in headers and b"x-auth-email" in headers else b""
    return given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else b""


def check_site(method: str, headers: Mapping[bytes, bytes], *, always: bool = False) -> None:
    """`MisdirectedError` (403) if a browser says that a page of another site asks for a change; with `always`, for
    anything, as at a WebSocket's handshake."""
    if method in _SAFE and not always:
        return
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        is_own = site in _OWN_SITES
    else:
        is_own = origin is None or _host_of(origin) == headers.get(b"host", b"").lower()
    if not is_own:
        raise MisdirectedError("a page of another site may not do this", status=403)


def _host_of(origin: bytes) -> bytes | None:
    try:
        return urlsplit(origin.decode("ascii")).netloc.lower().encode()
    except ValueError:  # not ASCII, or no address at all
        return None
