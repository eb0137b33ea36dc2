"""Messages that nothing changes any more, with all that happened to them."""

from typing import Final

from conveyor_apps.concierge.context import Context
from conveyor_apps.concierge.records import HistoryLine, Message, find_message, history_of, view_of
from conveyor_apps.concierge.words import Target
from conveyor_apps.tables import Transaction

from .archiving import archive
from .keeping import keep

BATCH_ROWS: Final = 500


async def clean_messages(context: Context, before: int) -> int:
    """Archive and delete one batch; how many messages went. One that changed or was held meanwhile stays."""

    def find(tx: Transaction) -> list[tuple[Message, list[HistoryLine]]]:
        rows = [find_message(tx, id) for (id,) in tx.rows("old_messages", before=before, limit=BATCH_ROWS)]
        return [(message, history_of(tx, message.id)) for message in rows if message is not None]

    found = await context.database.read(find)
    if not found:
        return 0
    records = [
        {"message": view_of(message, with_text=True), "reference": message.reference, "history": history}
        for message, history in found
    ]
    kept = await archive(
        context.bucket, Target.MESSAGE_QUEUE, records, first_at=found[0][0].created_at,
        last_at=found[-1][0].created_at,
    )  # fmt: skip

    def delete(tx: Transaction) -> int:
        gone = 0
        for message, _ in found:
            if tx.change("drop_message", id=message.id, updated_at=message.updated_at, state=message.state):
                tx.change("drop_history", message=message.id)
                gone += 1
        if gone:
            keep(tx, context.trail, kept)
        return gone

    return await context.database.write(delete)


async def count_messages(context: Context, before: int) -> tuple[int, int]:
    """How many would go, and how many are as old and stay because of a hold."""
    [(old, held)] = await context.database.read(lambda tx: tx.rows("count_old_messages", before=before))
    return old - held, held
