"""The way from a message's row into the queue.

Where the queue lies in the same SQLite file as the row, the send is part of the row's transaction. Elsewhere it
follows the transaction, and `Messages.relay` sends what a crash left behind, with the same dedupe key.
"""

from collections.abc import Sequence
from typing import Any

from conveyor import Conveyor, Outgoing
from conveyor_apps.tables import Transaction

from .records import Message
from .settings import QUEUE
from .words import DELAY_S

AHEAD_MS = 20 * 3_600_000
"""What goes later than so waits in the table: a queue holds nothing back for more than a day."""


class Outbox:
    """Sends to `message-delivery`."""

    def __init__(self, app: Conveyor, *, joins: bool) -> None:
        """`joins`: the rows lie in the queue's own file."""
        self._app = app
        self.joins = joins

    def send_in(self, tx: Transaction, outgoing: Outgoing) -> str:
        """As part of the transaction, on the thread that it is on; the id in the queue."""
        sent = self._app.run_sync(self._app.queue(QUEUE).send_batch([outgoing], tx=tx.connection))
        return sent[0].id

    async def send(self, outgoing: Sequence[Outgoing]) -> list[str]:
        """By itself; the ids in the queue."""
        return [each.id for each in await self._app.queue(QUEUE).send_batch(outgoing)]


def outgoing_of(message: Message, now_ms: int) -> Outgoing:
    """A message as it travels: held back until it is to go, else for as long as its priority says."""
    held_s = DELAY_S[message.priority]
    if message.send_at is not None:
        held_s = max(0, message.send_at - now_ms) / 1000  # type: ignore[assignment]
    return Outgoing(
        message.job(), delay=held_s, priority=message.priority.value, dedupe=f"{message.id}:{message.version}",
        headers=headers_of(message),
    )  # fmt: skip


def headers_of(message: Message) -> dict[str, Any]:
    """For the processor, and for the alert if it dies."""
    return {"message": message.id, "version": message.version}
