"""What the rooms of the store's front stand on: work in a transaction, and work that changes something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.transaction import Transaction

T = TypeVar("T")


class Front:
    """A part of the store's front."""

    async def _run(
        self,
        work: Callable[[Transaction], Awaitable[T]],
        durability: Durability = Durability.SYNCED,
        *,
        exclusive: bool = False,
    ) -> T:
        raise NotImplementedError

    async def _change(
        self, kind: str, name: str, run: Callable[[Transaction], Awaitable[T]], *, exclusive: bool = False
    ) -> T:
        raise NotImplementedError
