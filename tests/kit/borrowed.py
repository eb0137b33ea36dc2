"""The user's side of a transaction that conveyor joins: a connection of the user's, and what came of it."""

from __future__ import annotations

from pathlib import Path

import apsw

from conveyor import Conveyor


def connect(folder: Path) -> apsw.Connection:
    connection = apsw.Connection(str(folder / "store.db"))
    connection.set_busy_timeout(10_000)
    return connection


async def bodies(app: Conveyor, queue: str = "jobs") -> list[bytes]:
    found: list[bytes] = []
    after = 0
    while page := await app.store.peek(queue, limit=100, after_seq=after):
        found += [each.body for each in page]
        after = page[-1].seq
    return found
