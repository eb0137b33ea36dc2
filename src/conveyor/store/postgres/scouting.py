"""A look before a level's mark beside the claims, where an old transaction elsewhere has made that look dear."""

from __future__ import annotations

from conveyor.model.errors import ConveyorError
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.marks import Level, Marks, Place, Range
from conveyor.store.postgres.pool import Pool
from conveyor.store.postgres.transaction import Transaction


async def scout(pool: Pool, marks: Marks, level: Level, where: Range) -> None:
    """Lower the level's mark to the first message that lies there, if there is one."""

    async def look(tx: Transaction) -> Place | None:
        found = await tx.row("earliest_ready", *level, *where[0], *where[1])
        return None if found is None else (found[0], found[1])

    began = marks.monotonic()
    try:
        earliest = await pool.run(look, Durability.RELAXED)
    except ConveyorError:  # claims hear of it themselves
        marks.scouted(level, None, None)
        return
    marks.scouted(level, earliest, marks.monotonic() - began)
