"""One-time tickets for browsers, whose WebSocket and EventSource cannot send a token: asked for with the token, good for
one stream within 30 s, so that no token stands in a URL."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from conveyor.model.clock import Clock
from conveyor.model.refusals import UnauthenticatedError
from conveyor.server.rights import Caller

LIFE_S: Final = 30.0
TICKETS_MAX: Final = 1_000
"""Not used yet; of more than that the oldest is forgotten."""


class Tickets:
    """Those of this process."""

    def __init__(self, clock: Callable[[], Clock]) -> None:
        self._clock = clock
        self._callers: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def issue(self, caller: Caller) -> str:
        """A new one."""
        ticket = secrets.token_urlsafe(32)
        self._callers[_key(ticket)] = caller, self._clock().monotonic() + LIFE_S
        if len(self._callers) > TICKETS_MAX:
            self._callers.popitem(last=False)
        return ticket

    def redeem(self, ticket: str) -> Caller:
        """Whose it is; it is void from now on. `UnauthenticatedError`."""
        caller, until = self._callers.pop(_key(ticket), (None, 0.0))
        if caller is None or until <= self._clock().monotonic():
            raise UnauthenticatedError
        return caller


def _key(ticket: str) -> bytes:
    return hashlib.blake2b(ticket.encode("utf-8", "surrogatepass"), digest_size=32).digest()
