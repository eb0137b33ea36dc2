"""The user's own transaction: what a store does there happens if and when the user commits it.

`tx=` is whatever the user has in hand. Here it is taken apart as far as the driver's own connection, which is a store's
business from there on; no library is imported for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from conveyor.model.errors import InvalidTransactionError
from conveyor.model.message import Draft, Lease, Sent
from conveyor.model.settings import QueueSettings


class Joined(Protocol):
    """The user's transaction, open until the user ends it. What is raised on purpose leaves it as it was."""

    async def get_settings(self, queue: str) -> QueueSettings:
        """As the transaction sees them. `QueueNotFoundError`."""
        ...

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        """T1, all or none; visible, and consumers woken, after the user's COMMIT. `QueueNotFoundError`,
        `QueueFullError`."""
        ...

    async def ack(self, owner: int, lease: Lease) -> None:
        """T3. `LeaseLostError` if the lease is not this owner's any more, also if the message is gone."""
        ...


class Joinable(Protocol):
    """A store whose database may be the user's too."""

    def join(self, tx: object) -> Joined:
        """`InvalidTransactionError` if this is no open transaction of the store's own database."""
        ...


def find_connection(tx: object) -> object:
    """The driver's connection under an SQLAlchemy session or connection; anything else is handed back as it is."""
    if not is_from(tx, "sqlalchemy"):
        return tx
    part: Any = tx
    part = getattr(part, "sync_session", part)  # AsyncSession
    part = getattr(part, "sync_connection", part)  # AsyncConnection
    if part is None:
        raise InvalidTransactionError(tx, "it is not started")
    if hasattr(part, "get_bind"):  # a Session: the connection of its transaction
        part = part.connection()
    return part.connection.driver_connection


def is_from(value: object, *libraries: str) -> bool:
    """Whether the value's class, or one it inherits from, is of one of these libraries."""
    return any(kind.__module__.partition(".")[0] in libraries for kind in type(value).__mro__)
