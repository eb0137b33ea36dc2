"""Gathers the facts of one file for `conveyor doctor`: looks only, changes nothing, and stops nowhere for an error.

A file that is damaged, foreign or of another schema tells less: what could not be read is None, and `refusal` says why.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import apsw
import msgspec

from conveyor.model.clock import Clock
from conveyor.model.errors import ConveyorError
from conveyor.model.ids import IdSource
from conveyor.store.facts import BeltFacts, Facts, FileFacts, Integrity, QueueFacts
from conveyor.store.host import boot_name
from conveyor.store.migrate import SchemaState, compare_schema
from conveyor.store.sqlite import owners, queues, schedules
from conveyor.store.sqlite.catalog import Catalog
from conveyor.store.sqlite.clock import AnchoredClock, boot_ms, wall_ms
from conveyor.store.sqlite.connection import SAFE_LIBRARY, library_version, look_into, translate, use_pragmas
from conveyor.store.sqlite.mounts import file_system_of
from conveyor.store.sqlite.opening import read_applied
from conveyor.store.sqlite.sweep import RECEIPT_MS
from conveyor.store.sqlite.transaction import SQL, Transaction
from conveyor.store.sqlite.wake import Postbox

CHECK_MS_MAX: Final = 30_000
"""A quick check is given up after so long: it holds a snapshot, and the WAL grows meanwhile."""
PROBLEMS_MAX: Final = 10
PURGED_ROWS_MAX: Final = 10_000
_PROGRESS_STEPS: Final = 10_000


def examine_file(path: Path, *, is_thorough: bool) -> Facts:
    """Everything there is to know."""
    file = _look_at(path)
    if not file.exists:
        return Facts(file=file, refusal=f"there is no store at `{path}`")
    try:
        connection = look_into(path)
    except apsw.Error as error:
        return Facts(file=file, refusal=translate(error, path).message)
    try:
        return _look_inside(connection, file, is_thorough=is_thorough)
    except apsw.Error as error:
        damage = Integrity(problems=[str(error)], is_complete=True, is_thorough=is_thorough)
        is_damage = isinstance(error, apsw.CorruptError | apsw.NotADBError)
        file = msgspec.structs.replace(file, integrity=damage) if is_damage else file
        return Facts(file=file, refusal=translate(error, path).message)
    finally:
        connection.close()


def _look_at(path: Path) -> FileFacts:
    """From outside."""
    there = path.is_file()
    folder = path.parent
    return FileFacts(
        path=str(path),
        library=apsw.sqlite_lib_version(),
        library_is_safe=library_version() >= SAFE_LIBRARY,
        exists=there,
        readable=os.access(path, os.R_OK),
        writable=os.access(path, os.W_OK) and os.access(folder, os.W_OK | os.X_OK),
        file_system=file_system_of(folder),
        file_bytes=path.stat().st_size if there else 0,
        wal_bytes=_size(path.with_name(path.name + "-wal")),
        free_bytes=_free_bytes(folder),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free_bytes(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _look_inside(connection: apsw.Connection, file: FileFacts, *, is_thorough: bool) -> Facts:
    mode = str(connection.pragma("journal_mode"))
    use_pragmas(connection)
    file = msgspec.structs.replace(
        file,
        journal_mode=mode,
        synchronous=connection.pragma("synchronous"),
        integrity=check_pages(connection, is_thorough=is_thorough, most_ms=None if is_thorough else CHECK_MS_MAX),
    )
    schema = compare_schema("sqlite", read_applied(connection))
    refusal = _refusal(schema)
    if refusal is not None:
        return Facts(file=file, schema=schema, refusal=refusal)
    identity = connection.execute(SQL["read_identity"]).fetchone()
    wakes = None if identity is None else Postbox(identity[0].hex()).echoes()
    file = msgspec.structs.replace(file, wakes=wakes)
    try:
        return Facts(file=file, schema=schema, belt=_look_at_belt(connection))
    except (msgspec.MsgspecError, ConveyorError) as error:
        return Facts(file=file, schema=schema, refusal=f"a row cannot be read: {error}")


def check_pages(connection: apsw.Connection, *, is_thorough: bool, most_ms: int | None) -> Integrity:
    """SQLite's own check, quick or thorough; without `most_ms` to its end."""
    if most_ms is not None:
        ends_at = boot_ms() + most_ms
        connection.set_progress_handler(lambda: boot_ms() > ends_at, _PROGRESS_STEPS)
    pragma = "integrity_check" if is_thorough else "quick_check"
    try:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}({PROBLEMS_MAX})")]
    except apsw.InterruptError:
        return Integrity(problems=[], is_complete=False, is_thorough=is_thorough)
    finally:
        connection.set_progress_handler(None)
    return Integrity(problems=[] if found == ["ok"] else found, is_complete=True, is_thorough=is_thorough)


def _refusal(schema: SchemaState) -> str | None:
    if not schema.applied:
        return "the file is no conveyor store"
    if schema.problem is not None:
        return schema.problem
    return "its schema is older than this release" if schema.due else None


def _look_at_belt(connection: apsw.Connection) -> BeltFacts:
    """All in one snapshot."""
    clock, drift_ms = _read_time(connection)
    connection.execute("BEGIN")
    tx = Transaction(connection.cursor(), Catalog(), clock, IdSource(clock))
    found_purged = tx.row("count_purged", PURGED_ROWS_MAX)
    listed = _list_queues(tx)
    return BeltFacts(
        now=tx.now,
        host=boot_name(),
        is_of_one_host=True,
        clock_drift_ms=drift_ms,
        owners=owners.list_owners(tx),
        queues=listed,
        schedules=schedules.list_schedules(tx),
        due_since=_due_since(tx, listed),
        purged_rows=0 if found_purged is None else found_purged[0],
    )


def count_living_owners(path: Path) -> int:
    """Worker processes whose lease is not over. Raises `apsw.Error`."""
    connection = look_into(path)
    try:
        return count_owners(connection) if read_applied(connection) else 0
    finally:
        connection.close()


def count_owners(connection: apsw.Connection) -> int:
    """Those of them that live."""
    clock, _ = _read_time(connection)
    found = connection.execute(SQL["count_live_owners"], (clock.now_ms(),)).fetchone()
    return 0 if found is None else int(found[0])


def _read_time(connection: apsw.Connection) -> tuple[Clock, int | None]:
    """The file's clock, and how far it is before the wall clock."""
    anchor = connection.execute(SQL["read_anchor"]).fetchone()
    boot, anchor_boot_ms, anchor_wall_ms = anchor or ("", boot_ms(), wall_ms())
    if boot != boot_name():
        return AnchoredClock(wall_ms(), boot_ms()), None
    clock = AnchoredClock(anchor_wall_ms, anchor_boot_ms)
    return clock, clock.now_ms() - wall_ms()


def _list_queues(tx: Transaction) -> list[QueueFacts]:
    dead: dict[str, int] = dict(tx.rows("count_dead_letters"))
    return [
        QueueFacts(info=info, metrics=queues.metrics(tx, info.name), dead_letters=dead.get(info.name, 0))
        for info in queues.list_queues(tx)
    ]


def _due_since(tx: Transaction, listed: list[QueueFacts]) -> dict[str, int]:
    due = {kind: since for kind, since in tx.rows("due_since", tx.now, RECEIPT_MS) if since is not None}
    aged = [
        each.metrics.oldest_ready_at + each.info.settings.retention_ms
        for each in listed
        if each.metrics.oldest_ready_at is not None
    ]
    if aged and min(aged) <= tx.now:
        due["messages past their retention"] = min(aged)
    return due
