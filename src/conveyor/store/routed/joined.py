"""The user's transaction, in whichever store the queue lives: only that one's database can be the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conveyor.model.errors import InvalidTransactionError
from conveyor.model.message import Draft, Lease, Sent
from conveyor.model.settings import QueueSettings
from conveyor.store.joining import Joined
from conveyor.store.routed.part import Part


class RoutedJoin:
    """`Joined`; which store it is shows with the first queue."""

    def __init__(self, tx: object, part_of: Callable[[str], Part]) -> None:
        self._tx = tx
        self._part_of = part_of

    async def get_settings(self, queue: str) -> QueueSettings:
        return await self._join(queue).get_settings(queue)

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        return await self._join(drafts[0].queue).append(drafts) if drafts else []

    async def ack(self, owner: int, lease: Lease) -> None:
        await self._join(lease.queue).ack(owner, lease)

    def _join(self, queue: str) -> Joined:
        part = self._part_of(queue)
        try:
            return part.join(self._tx)
        except InvalidTransactionError as error:
            hint = error.hint or "give a transaction of its database"
            error.hint = f"queue `{queue}` lives in store `{part.name}`: {hint}"
            raise
