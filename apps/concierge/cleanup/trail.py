"""The audit trail goes from its beginning, record by record without a gap, so that what is left is still a chain."""

from itertools import takewhile
from typing import Any, Final

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.audit import FACTS, START
from conveyor_apps.concierge.context import Context
from conveyor_apps.concierge.words import Target
from conveyor_apps.tables import Row, Transaction

from .archiving import archive
from .keeping import keep

BATCH_ROWS: Final = 2_000


async def clean_trail(context: Context, before: int) -> int:
    """Archive and delete one batch; how many records went."""
    found = await context.database.read(lambda tx: tx.rows("old_records", limit=BATCH_ROWS))
    old = list(takewhile(lambda row: row[1] < before and not row[9], found))
    if not old:
        return 0
    start = await context.database.read(lambda tx: tx.rows("head", name=START))
    previous = bytes(start[0][1]).hex() if start else ""
    records = _lines(old, previous)
    kept = await archive(
        context.bucket, Target.AUDIT_LOGS, records, first_at=old[0][1], last_at=max(row[1] for row in old)
    )
    last = int(old[-1][0])

    def delete(tx: Transaction) -> int:
        if tx.rows("count_held_records", number=last)[0][0]:
            return 0  # a hold came meanwhile; the next batch ends before it
        gone = context.trail.forget(tx, last)
        if gone:
            keep(tx, context.trail, kept)
        return gone

    return await context.database.write(delete)


async def count_trail(context: Context, before: int) -> tuple[int, int]:
    """How many would go, and how many are as old and stay because of a hold."""
    [(rows, held)] = await context.database.read(lambda tx: tx.rows("count_old_records", before=before))
    return rows, held


def _lines(rows: list[Row], previous: str) -> list[dict[str, Any]]:
    """As an export has them, so that `verify` reads both."""
    lines = []
    for row in rows:
        own = bytes(row[8]).hex()
        facts = dict(zip(FACTS, row, strict=False))
        lines.append({**facts, "at": clock.iso(row[1]), "previous": previous, "hash": own})
        previous = own
    return lines
