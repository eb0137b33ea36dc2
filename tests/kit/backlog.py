"""A long backlog of one key, written past the store in a second rather than sent in a minute."""

from __future__ import annotations

from pathlib import Path

import apsw
import asyncpg

from conveyor.model.message import Priority
from conveyor.store.postgres.opening import read_address

NORMAL = int(Priority.NORMAL)


def fill_file(path: Path, *, queue: str, key: str, count: int, now: int) -> None:
    """Messages of one key in an open SQLite store; put a consumer to the queue next, so that the keys are found."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    with connection:
        (lane, first), *_ = connection.execute("SELECT lane, last_seq FROM queues, store WHERE name = ?", (queue,))
        numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        connection.execute(
            numbers
            + "INSERT INTO messages (seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key) "
            "SELECT ? + i, ?, randomblob(16), x'31', 0, ?, ?, ?, ?, ? FROM n",
            (count, first, lane, now, now, now, NORMAL, key),
        )
        connection.execute(
            "INSERT INTO ready SELECT lane, 0, priority, ready_at, seq, 0, 0, 0 FROM messages WHERE lane = ? AND seq > ?",
            (lane, first),
        )
        connection.execute("INSERT INTO counters VALUES (?, ?, ?)", (lane, count, count))
        connection.execute("UPDATE queues SET levels = ? WHERE lane = ?", (1 << NORMAL, lane))
        connection.execute("UPDATE store SET last_seq = ?, catalog_version = catalog_version + 1", (first + count,))
    connection.close()


async def fill_schema(url: str, *, queue: str, key: str, count: int, now: int) -> None:
    """The same in an open PostgreSQL store."""
    address = read_address(url)
    connection = await asyncpg.connect(address.dsn, server_settings={"search_path": address.schema})
    try:
        async with connection.transaction():
            lane = await connection.fetchval("SELECT lane FROM queues WHERE name = $1", queue)
            await connection.execute(
                "INSERT INTO messages (seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key) "
                "SELECT nextval('message_seq'), $1, decode(md5(i::text), 'hex'), '1', 0, $2, $2, $2, $3, $4 "
                "FROM generate_series(1, $5::int) i",
                *(lane, now, NORMAL, key, count),
            )
            await connection.execute(
                "INSERT INTO ready SELECT lane, 0, priority, ready_at, seq, 0, 0, 0 FROM messages WHERE lane = $1", lane
            )
            await connection.execute("INSERT INTO counters VALUES ($1, $2, $2)", lane, count)
            await connection.execute("UPDATE queues SET levels = $1 WHERE lane = $2", 1 << NORMAL, lane)
            await connection.execute("UPDATE store SET catalog_version = catalog_version + 1")
    finally:
        await connection.close()
