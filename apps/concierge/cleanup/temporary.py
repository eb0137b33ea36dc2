"""Files of exports whose time is over, files that belong to no export, and exports that nobody writes any more."""

from typing import Final

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.context import Context
from conveyor_apps.concierge.exports import Exports
from conveyor_apps.concierge.exports.writing import PREFIX
from conveyor_apps.concierge.words import ExportState

BATCH_ROWS: Final = 200
SILENT_MS: Final = 3_600_000
"""An export that runs and of which nothing was heard for so long is not being written."""
STRAY_MS: Final = 86_400_000
"""A file that belongs to no export, and is younger, may belong to one that is just beginning."""
LOST: Final = "nobody writes it any more; ask for it again"


async def clean_temporary(context: Context, before: int) -> int:
    """Delete one batch; how many files went."""
    exports = Exports(context.database, context.trail)
    now = clock.now_ms()
    rows = await context.database.read(lambda tx: tx.rows("silent_exports", before=now - SILENT_MS, limit=BATCH_ROWS))
    for (export,) in rows:
        await exports.fail(export, LOST)
    due = await context.database.read(
        lambda tx: tx.rows("ready_exports", before=min(before, now), after="", limit=BATCH_ROWS)
    )
    for export, key in due:
        await context.bucket.delete(key)  # before the row: whoever is cut short finds the row again
        await exports.expire(export)
    strays = await _strays(context, exports, min(before, now - STRAY_MS))
    for key in strays[:BATCH_ROWS]:
        await context.bucket.delete(key)
    return len(due) + len(strays[:BATCH_ROWS])


async def count_temporary(context: Context, before: int) -> tuple[int, int]:
    """How many files would go; those that are held are not counted."""
    now = clock.now_ms()
    due = await context.database.read(
        lambda tx: tx.rows("ready_exports", before=min(before, now), after="", limit=1_000_000)
    )
    strays = await _strays(context, Exports(context.database, context.trail), min(before, now - STRAY_MS))
    return len(due) + len(strays), 0


async def _strays(context: Context, exports: Exports, before: int) -> list[str]:
    """Files of exports that are not there, or have ended without a file."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await context.bucket.list(prefix=PREFIX, cursor=cursor)
        for each in page.objects:
            if each.uploaded.timestamp() * 1_000 >= before:
                continue
            export = await exports.find(each.key.removeprefix(PREFIX).rpartition(".")[0])
            if export is None or export.state in {ExportState.FAILED, ExportState.CANCELLED, ExportState.EXPIRED}:
                found.append(each.key)
        cursor = page.cursor
        if cursor is None:
            return found
