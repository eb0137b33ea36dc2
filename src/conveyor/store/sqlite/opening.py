"""Brings a file to the present schema, and sets the anchor of its clock. Runs once, before the writer's thread
begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import apsw

from conveyor.model.errors import StoreUnsupportedError
from conveyor.store.facts import NETWORK_FILE_SYSTEMS
from conveyor.store.host import boot_name
from conveyor.store.migrate import AppliedMigration, Migration, plan_migrations
from conveyor.store.sqlite.clock import DRIFT_MS_MAX, AnchoredClock, boot_ms, wall_ms
from conveyor.store.sqlite.connection import open_connection, translate
from conveyor.store.sqlite.mounts import file_system_of
from conveyor.store.sqlite.transaction import SQL

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS migrations (
  number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, ran_at INTEGER NOT NULL
)
"""
_APPLIED: Final = "SELECT number, name, checksum, ran_at FROM migrations ORDER BY number"
_FIRST_ROW: Final = "INSERT OR IGNORE INTO store VALUES (1, ?, ?, 0, 0, 0, 0, ?, ?, ?)"


def open_store(path: Path) -> tuple[apsw.Connection, str]:
    """A writing connection to a migrated file, and the file's identity. Raises a `StoreError`."""
    check_place(path)
    connection = open_connection(path, writes=True)
    try:
        migrate(connection)
        found = connection.execute(SQL["read_identity"]).fetchone()
    except apsw.Error as error:
        connection.close()
        raise translate(error, path) from error
    except BaseException:
        connection.close()
        raise
    assert found is not None
    return connection, found[0].hex()


def migrate_file(path: Path) -> list[Migration]:
    """Run what is due on a file, which is made if need be; those that ran. Raises a `StoreError`."""
    check_place(path)
    connection = open_connection(path, writes=True)
    try:
        return migrate(connection)
    except apsw.Error as error:
        raise translate(error, path) from error
    finally:
        connection.close()


def check_place(path: Path) -> None:
    """`StoreUnsupportedError` on a network's file system, where WAL mode corrupts."""
    kind = file_system_of(path.parent)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreUnsupportedError(
            f"`{path}` lies on {kind}, where SQLite's WAL mode corrupts", hint="put the file on a local disk"
        )


def migrate(connection: apsw.Connection) -> list[Migration]:
    """All in one transaction: a kill leaves the old schema or the new one."""
    if _has_schema(connection) and not plan_migrations("sqlite", read_applied(connection)):
        return []
    connection.execute("BEGIN IMMEDIATE")
    with _RollBack(connection):
        connection.execute(_TABLE)
        due = plan_migrations("sqlite", read_applied(connection))
        for migration in due:
            connection.execute(migration.text)
            row = (migration.number, migration.name, migration.checksum, wall_ms())
            connection.execute("INSERT INTO migrations VALUES (?, ?, ?, ?)", row)
        connection.execute(_FIRST_ROW, (os.urandom(16), os.urandom(32), boot_name(), boot_ms(), wall_ms()))
        connection.execute("COMMIT")
    return due


class _RollBack:
    """Ends the transaction if its body fails."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def read_applied(connection: apsw.Connection) -> list[AppliedMigration]:
    """Those that ran in this file; none in a file that is no store."""
    if not _has_schema(connection):
        return []
    return [
        AppliedMigration(number=number, name=name, checksum=checksum, ran_at=ran_at)
        for number, name, checksum, ran_at in connection.execute(_APPLIED)
    ]


def _has_schema(connection: apsw.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migrations'").fetchone() is not None


def read_clock(connection: apsw.Connection) -> AnchoredClock:
    """The file's clock: every process of this boot computes the same time from the same anchor."""
    found = connection.execute(SQL["read_anchor"]).fetchone()
    assert found is not None
    boot, anchor_boot_ms, anchor_wall_ms = found
    clock = AnchoredClock(anchor_wall_ms, anchor_boot_ms)
    if boot == boot_name() and (_is_close(clock) or _has_owners(connection, clock)):
        return clock
    connection.execute(SQL["write_anchor"], (boot_name(), now_boot := boot_ms(), now_wall := wall_ms()))
    return AnchoredClock(now_wall, now_boot)


def _is_close(clock: AnchoredClock) -> bool:
    return abs(clock.now_ms() - wall_ms()) <= DRIFT_MS_MAX


def _has_owners(connection: apsw.Connection, clock: AnchoredClock) -> bool:
    found = connection.execute(SQL["count_live_owners"], (clock.now_ms(),)).fetchone()
    return found is not None and found[0] > 0
