"""What operators do with dead letters. A dead letter queue is an ordinary queue, whose messages know where they
died."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.model.errors import InvalidSettingError
from conveyor.model.message import PEEK_MESSAGES_MAX, Peeked
from conveyor.model.settings import check_name
from conveyor.store.protocol import Store
from conveyor.store.records import SWEEP_ROWS_MAX


class DeadLetters:
    """The dead letters of one queue: look, send back, throw away."""

    def __init__(self, store: Store, queue: str) -> None:
        check_name("queue", queue)
        self.queue = queue
        self._store = store

    async def list(self, *, limit: int = PEEK_MESSAGES_MAX, after_seq: int = 0) -> list[Peeked]:
        """Oldest first; messages that were sent here rather than having died are listed too."""
        _check_limit(limit, PEEK_MESSAGES_MAX)
        return await self._store.peek(self.queue, limit=limit, after_seq=after_seq)

    async def redrive(self, *, seqs: Sequence[int] | None = None) -> int:
        """Back to the queues they came from, these or all; how many went."""
        if seqs is not None:
            return await self._store.redrive(self.queue, seqs=seqs, limit=max(1, len(seqs)))
        most = (await self._store.metrics(self.queue)).backlog_messages  # what dies again meanwhile is not sent round
        moved = 0
        while moved < most:
            count = await self._store.redrive(self.queue, limit=min(SWEEP_ROWS_MAX, most - moved))
            if count == 0:
                break
            moved += count
        return moved

    async def purge(self) -> int:
        """All of them are gone; how many."""
        return await self._store.purge(self.queue)


def _check_limit(limit: int, most: int) -> None:
    if not 1 <= limit <= most:
        raise InvalidSettingError("limit", limit, f"must be a whole number from 1 to {most:,}")
