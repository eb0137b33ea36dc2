"""The way from a message's row into the queue.

Where the queue lies in the same SQLite file as the row, the send is part of the row's transaction. Elsewhere it
follows the transaction, and `Messages.relay` sends what a crash left behind, with the same dedupe key.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from conveyor import Conveyor, Outgoing
from conveyor_apps.tables import Transaction

from .records import Message
from .settings import QUEUE
from .words import DELAY_S

BATCH_MESSAGES: Final = 100
BATCH_BYTES: Final = 200_000
AHEAD_MS: Final = 20 * 3_600_000
"""What goes later than so waits in the table: a queue holds nothing back for more than a day."""


class Outbox:
    """Sends to `message-delivery`."""

    def __init__(self, app: Conveyor, *, joins: bool) -> None:
        """`joins`: the rows lie in the queue's own file."""
        self._app = app
        self.joins = joins

    def send_in(self, tx: Transaction, outgoing: Sequence[Outgoing]) -> list[str]:
        """As part of the transaction, from the thread that it is on; their ids in the queue."""
        queue = self._app.queue(QUEUE)
        batches = (self._app.run_sync(queue.send_batch(batch, tx=tx.connection)) for batch in _cut(outgoing))
        return [each.id for batch in batches for each in batch]

    async def send(self, outgoing: Sequence[Outgoing]) -> list[str]:
        """By themselves; their ids in the queue."""
        queue = self._app.queue(QUEUE)
        return [each.id for batch in _cut(outgoing) for each in await queue.send_batch(batch)]


def outgoing_of(message: Message, now_ms: int) -> Outgoing:
    """A message as it travels: held back until it is to go, else for as long as its priority says."""
    held_s: float = DELAY_S[message.priority]
    if message.send_at is not None:
        held_s = max(0, message.send_at - now_ms) / 1000
    return Outgoing(
        message.job(), delay=held_s, priority=message.priority.value, dedupe=f"{message.id}:{message.version}",
        headers={"message": message.id, "version": message.version},
    )  # fmt: skip


def _cut(outgoing: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """In batches that a queue takes."""
    batch: list[Outgoing] = []
    size = 0
    for each in outgoing:
        grown = size + len(msgspec.json.encode(each.body))
        if batch and (len(batch) == BATCH_MESSAGES or grown > BATCH_BYTES):
            yield batch
            batch, grown = [], grown - size
        batch.append(each)
        size = grown
    if batch:
        yield batch
