"""What a store looks like at one moment: how large each table and index is, how many rows are dead, and whether the
kept counters are true, which is asked within one statement, so of one snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

HOT: Final = ("messages", "ready", "leased", "counters")
"""Those that every message goes through."""
PASSING: Final = ("keyed", "dedupe", "dead_letters", "receipts", "jobs", "attempts", "runs", "notices", "documents")
"""What some messages leave behind for a time."""
SIZES: Final = """
SELECT c.relname, pg_relation_size(c.oid) AS bytes, c.relkind = 'i' AS is_index,
  coalesce(o.relname, c.relname) AS owner, coalesce(pg_stat_get_dead_tuples(c.oid), 0) AS dead,
  coalesce(pg_stat_get_live_tuples(c.oid), 0) AS live
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index x ON x.indexrelid = c.oid LEFT JOIN pg_class o ON o.oid = x.indrelid
WHERE n.nspname = $1 AND c.relkind IN ('r', 'i')
"""
UNTRUE: Final = """
SELECT coalesce(sum(abs(k.messages - t.messages) + abs(k.bytes - t.bytes)), 0)::bigint FROM {0}.queues q
CROSS JOIN LATERAL (SELECT coalesce(sum(messages), 0) AS messages, coalesce(sum(bytes), 0) AS bytes
                    FROM {0}.counters WHERE lane = q.lane) k
CROSS JOIN LATERAL (SELECT count(*) AS messages, coalesce(sum(octet_length(body)), 0) AS bytes
                    FROM {0}.messages WHERE lane = q.lane) t
"""
BLOCKS: Final = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
SCHEMA: Final = (
    "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = 'ready'"
)


@dataclass(frozen=True)
class Look:
    """Bytes of each table with its indexes, and of each index alone; rows by PostgreSQL's own count."""

    tables: Mapping[str, int]
    indexes: Mapping[str, int]
    dead: Mapping[str, int]
    live: Mapping[str, int]
    blocks: int
    """Of 8 KiB, that all statements of this database have looked at until now, vacuums included."""
    untrue: int
    """By how many messages and bytes the kept counters of all queues are wrong."""

    def size(self, names: tuple[str, ...]) -> int:
        return sum(self.tables[name] for name in names)


async def look(link: Any) -> Look:
    schema = await link.fetchval(SCHEMA)
    rows = await link.fetch(SIZES, schema)
    tables: dict[str, int] = {}
    for row in rows:
        tables[row["owner"]] = tables.get(row["owner"], 0) + row["bytes"]
    return Look(
        tables=tables,
        indexes={row["relname"]: row["bytes"] for row in rows if row["is_index"]},
        dead={row["relname"]: row["dead"] for row in rows if not row["is_index"]},
        live={row["relname"]: row["live"] for row in rows if not row["is_index"]},
        blocks=await link.fetchval(BLOCKS),
        untrue=await link.fetchval(UNTRUE.format(f'"{schema}"')),
    )
