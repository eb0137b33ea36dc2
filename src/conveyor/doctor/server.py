"""Checks of a PostgreSQL server: whether it keeps what it acknowledges, and whether it can clear away what is done."""

from __future__ import annotations

from typing import Final

from conveyor.doctor.finding import Finding, fail, fine, show_age, show_bytes, warn
from conveyor.model.duration import DAY_MS, MINUTE_MS
from conveyor.store.facts import Holder, ServerFacts

VERSION_OLDEST: Final = 14
SUPPORTED_UNTIL: Final = {
    14: 1_794_441_600_000,  # 2026-11-12
    15: 1_825_891_200_000,  # 2027-11-11
    16: 1_857_340_800_000,  # 2028-11-09
    17: 1_888_790_400_000,  # 2029-11-08
    18: 1_920_844_800_000,  # 2030-11-14
}
"""When the project ends its care for a release: https://www.postgresql.org/support/versioning."""
SOON_MS: Final = 90 * DAY_MS
HELD_MS_MAX: Final = 1 * MINUTE_MS
IDLE_MS_MAX: Final = 10_000
FULL_PERCENT: Final = 80
DEAD_ROWS_MIN: Final = 50_000
BLOAT_BYTES_MIN: Final = 256_000_000
BLOAT_FACTOR: Final = 10
ROW_BYTES: Final = 500
"""What a message takes beside its body, in all tables and indexes; generously."""
BELT_TABLES: Final = frozenset(
    {"messages", "ready", "leased", "counters", "receipts", "keyed", "dedupe", "dead_letters"}
)
"""Whose rows come and go; values and runs are as large as they are."""
XID_AGE_MAX: Final = 1_000_000_000
XID_AGE_LAST: Final = 2_000_000_000
_SHOWN: Final = 3


def version(server: ServerFacts) -> Finding:
    number = server.version // 10_000
    found = f"PostgreSQL {server.release}"
    if number < VERSION_OLDEST:
        return fail("server", f"{found} is too old", f"upgrade the server to {VERSION_OLDEST} or newer")
    until = SUPPORTED_UNTIL.get(number)
    if until is not None and server.now > until:
        return warn("server", f"{found} gets no more fixes of security holes or lost data", "upgrade the server")
    if until is not None and server.now > until - SOON_MS:
        left = show_age(until - server.now)
        return warn("server", f"{found} gets fixes for {left} more only", "plan an upgrade of the server")
    return fine("server", found)


def access(server: ServerFacts) -> Finding:
    if server.is_standby:
        hint = "name the primary in CONVEYOR_URL"
        return fail("access", "this is a standby: nothing can be sent or acknowledged", hint)
    if server.read_only != "off":
        hint = "reset it where it is set: postgresql.conf, ALTER DATABASE or ALTER ROLE; or a full disk's guard set it"
        return fail("access", "default_transaction_read_only is on: every send and verdict fails", hint)
    return fine("access", f"`{server.where}` can be written")


def durability(server: ServerFacts) -> Finding:
    if server.fsync != "on":
        hint = "fsync = on, and restore a backup if the machine has crashed meanwhile"
        return fail("durability", "fsync is off: a crash of the machine damages the whole database", hint)
    if server.full_page_writes != "on":
        hint = "full_page_writes = on, unless the file system itself writes pages whole (ZFS)"
        return fail("durability", "full_page_writes is off: a power cut in a write damages pages", hint)
    if server.synchronous_commit == "off":
        found = "synchronous_commit is off: a crash loses sends and verdicts that were acknowledged"
        hint = "reset it where it is set: postgresql.conf, ALTER DATABASE or ALTER ROLE"
        return fail("durability", found, hint)
    return fine("durability", f"fsync, full_page_writes, synchronous_commit={server.synchronous_commit}")


def connections(server: ServerFacts) -> Finding:
    percent = server.connections * 100 // max(server.connections_max, 1)
    found = f"{server.connections} of {server.connections_max} in use"
    if percent < FULL_PERCENT:
        return fine("connections", found)
    hint = "lower `?pool=`, put PgBouncer before the server, or raise max_connections"
    return warn("connections", f"{found}: a process that finds none cannot work", hint)


def indexes(server: ServerFacts) -> Finding | None:
    if not server.tables:
        return None
    if server.missing_indexes:
        found = f"missing: {_list(list(server.missing_indexes))}; without, whole tables are read"
        statement = next(iter(server.missing_indexes.values()))
        return fail("indexes", found, statement or "`conveyor backup` and `conveyor restore` make the schema anew")
    if server.invalid_indexes:
        found = f"invalid, and never used: {_list(server.invalid_indexes)}"
        return fail("indexes", found, f"REINDEX INDEX CONCURRENTLY {server.invalid_indexes[0]}")
    return fine("indexes", "all there, and valid")


def vacuum(server: ServerFacts) -> Finding | None:
    if not server.tables:
        return None
    left_out = [each.name for each in server.tables if not each.is_vacuumed]
    if server.autovacuum != "on" or left_out:
        where = "" if server.autovacuum != "on" else f" for {_list(left_out)}"
        hint = "autovacuum = on" if not where else f"reset it: ALTER TABLE {left_out[0]} RESET (autovacuum_enabled)"
        found = f"autovacuum is off{where}: rows that are done stay, and every claim walks past them"
        return fail("vacuum", found, hint)
    dead = {each.name: each.dead_rows for each in server.tables if _is_littered(each.dead_rows, each.live_rows)}
    if dead:
        names = _list([f"{count:,} in `{name}`" for name, count in dead.items()])
        most = max(dead, key=dead.__getitem__)
        hint = (
            "see who holds them (`horizon`); if nobody does and they stay, let vacuum go faster: "
            f"ALTER TABLE {most} SET (autovacuum_vacuum_cost_limit = 10000)"
        )
        return warn("vacuum", f"dead rows: {names}; claims slow down", hint)
    return fine("vacuum", f"{sum(each.dead_rows for each in server.tables):,} dead rows in all")


def _is_littered(dead: int, live: int) -> bool:
    return dead >= DEAD_ROWS_MIN and dead > live


def bloat(server: ServerFacts) -> Finding | None:
    """What a backlog that is gone has left: pages that are empty, and are read all the same."""
    belt = [each for each in server.tables if each.name in BELT_TABLES]
    if not belt:
        return None
    size = sum(each.size_bytes for each in belt)
    needed = server.backlog_bytes + ROW_BYTES * server.backlog_messages
    found = f"{show_bytes(size)} for {server.backlog_messages:,} messages of {show_bytes(server.backlog_bytes)}"
    if size < BLOAT_BYTES_MIN or size < BLOAT_FACTOR * needed:
        return fine("bloat", found)
    largest = max(belt, key=lambda each: each.size_bytes).name
    hint = f"new messages fill it; to shrink it, at a quiet time: VACUUM FULL {largest}, which locks it"
    return warn("bloat", found, hint)


def horizon(server: ServerFacts) -> Finding:
    """Who keeps dead rows from being cleared away."""
    held = [each for each in server.holders if each.xids is not None and _is_long(each)]
    if not held:
        return fine("horizon", "nobody holds an old snapshot" + ("" if server.sees_all else _BLIND))
    dead = sum(each.dead_rows for each in server.tables)
    found = f"{_list([_describe(each) for each in held])}; {dead:,} dead rows wait, and every claim walks past them"
    return warn("horizon", found, _CURES[held[0].kind])


def idlers(server: ServerFacts) -> Finding:
    """Who sits in a transaction and does nothing: its locks, and the catalog's, wait with it."""
    idle = [each for each in server.holders if each.kind == "idle in transaction" and (each.age_ms or 0) > IDLE_MS_MAX]
    if not idle:
        return fine("idle transactions", "none" + ("" if server.sees_all else _BLIND))
    found = f"{_list([_describe(each) for each in idle])}: what it has locked waits, and so may a queue's settings"
    return warn("idle transactions", found, "end it, and set idle_in_transaction_session_timeout")


def wraparound(server: ServerFacts) -> Finding:
    age = max(server.xid_age, server.mxid_age)
    found = f"the oldest row is {age:,} transactions old, at 2,000,000,000 the server refuses to write"
    if age < XID_AGE_MAX:
        return fine("wraparound", f"{age * 100 // XID_AGE_LAST} % of the way")
    hint = "end what holds the horizon, and VACUUM (FREEZE) the database; see who keeps autovacuum from it"
    return (fail if age > XID_AGE_LAST * FULL_PERCENT // 100 else warn)("wraparound", found, hint)


def wake_ups(server: ServerFacts) -> Finding | None:
    if server.hears is None:
        return None
    if server.hears:
        return fine("wake-ups", "a notification came through")
    hint = "polls find messages within 1 s all the same; for less, name a way around it by `&listen=`"
    return warn("wake-ups", "LISTEN hears nothing: a pooler in transaction mode swallows it", hint)


_BLIND: Final = ", as far as this role may see: GRANT pg_read_all_stats to it"
_CURES: Final = {
    "transaction": "end it: SELECT pg_terminate_backend(pid); keep long reads on a standby",
    "idle in transaction": "end it: SELECT pg_terminate_backend(pid), and set idle_in_transaction_session_timeout",
    "prepared transaction": "COMMIT PREPARED or ROLLBACK PREPARED it: nobody else will",
    "replication slot": "see why its reader is behind, and set max_slot_wal_keep_size",
    "idle replication slot": "nobody reads it: SELECT pg_drop_replication_slot(name), or start its reader",
    "standby": "a query on the standby holds it by hot_standby_feedback: end it there",
}


def _is_long(holder: Holder) -> bool:
    """A slot that somebody reads moves on by itself."""
    if holder.age_ms is None:
        return holder.kind == "idle replication slot" or (holder.xids or 0) > XID_AGE_MAX // 1_000
    return holder.age_ms > HELD_MS_MAX


def _describe(holder: Holder) -> str:
    since = "" if holder.age_ms is None else f", for {show_age(holder.age_ms)}"
    behind = "" if holder.xids is None else f", {holder.xids:,} transactions back"
    return f"{holder.kind} {holder.who}{since}{behind}"


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
