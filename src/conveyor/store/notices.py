"""What a database must promise of notices: events of one process that the servers of others tell to whoever listens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

NOTICES_MAX: Final = 1_000
"""Kept; the oldest go."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One event."""

    origin: str
    """The process that it comes from."""
    at: int
    """Milliseconds of the store's clock."""
    name: str
    body: bytes
    """Its facts: a JSON object."""
    number: int = 0
    """Given by the store; later ones have higher numbers."""


class NoticeStore(Protocol):
    """A ring of notices. The rules of `conveyor.store.protocol` hold here too."""

    async def add(self, notices: Sequence[Notice]) -> None:
        """The last of all; beyond `NOTICES_MAX` the oldest are gone."""
        ...

    async def read(self, *, after: int, limit: int) -> Sequence[Notice]:
        """By number, from the one after `after` on."""
        ...

    async def last(self) -> int:
        """The highest number that was ever given; 0 at first."""
        ...
