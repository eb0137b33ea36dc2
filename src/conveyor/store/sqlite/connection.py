"""Opens the file and refuses what cannot be trusted; turns the library's errors into ours, by number."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import apsw

from conveyor.model.errors import (
    OutcomeUnknownError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnsupportedError,
)
from conveyor.store.note import read_note

BUSY_WAIT_S: Final = 30.0
BUSY_NAP_S: Final = 0.000_2
CACHE_KIB: Final = 16_384

# Every SQLite up to 3.51.2 can lose a WAL reset between two connections (fixed in 3.51.3), so none may write here.
SAFE_LIBRARY: Final = (3, 51, 3)


def check_library() -> None:
    """`StoreUnsupportedError` if apsw brings an SQLite that can corrupt a WAL file."""
    if library_version() < SAFE_LIBRARY:
        raise StoreUnsupportedError(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a WAL file", hint="install apsw 3.51.3 or newer"
        )


def library_version() -> tuple[int, ...]:
    """SQLite's, as numbers."""
    return tuple(int(part) for part in apsw.sqlite_lib_version().split(".")[:3])


def look_into(path: Path) -> apsw.Connection:
    """A connection that changes nothing: makes no file, sets no journal mode, moves no WAL. Raises `apsw.Error`."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX)
    connection.set_busy_handler(_BusyNaps())
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size > 0:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.pragma("query_only", 1)
    return connection


def open_connection(path: Path, *, writes: bool) -> apsw.Connection:
    """A connection with our pragmas; the file is made if need be. Raises a `StoreError`."""
    check_library()
    if not path.parent.is_dir():
        raise StoreUnsupportedError(f"folder `{path.parent}` does not exist", hint=f"mkdir -p {path.parent}")
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOMUTEX
    try:
        connection = apsw.Connection(str(path), flags=flags)
        _prepare(connection, writes=writes)
    except apsw.Error as error:
        raise translate(error, path) from error
    if writes and connection.readonly("main"):
        raise StoreReadOnlyError(str(path))
    return connection


class _BusyNaps:
    """Waits for another process's commit in naps of 0.2 ms: SQLite's own handler sleeps up to 100 ms and is not
    fair."""

    def __init__(self) -> None:
        self._since = 0.0

    def __call__(self, tries: int) -> bool:
        if tries == 0:
            self._since = time.monotonic()
        time.sleep(BUSY_NAP_S)  # a lock of the operating system, not a wait that a test could steer
        return time.monotonic() - self._since < BUSY_WAIT_S


def _prepare(connection: apsw.Connection, *, writes: bool) -> None:
    connection.set_busy_handler(_BusyNaps())
    mode = connection.pragma("journal_mode", "wal")
    if mode != "wal":
        raise apsw.CantOpenError(f"journal mode is {mode}, not wal")
    use_pragmas(connection)
    if not writes:
        connection.pragma("query_only", 1)


def use_pragmas(connection: apsw.Connection) -> None:
    """What a connection of ours keeps to; nothing of it is kept in the file."""
    connection.pragma("synchronous", 2)  # FULL: an acknowledged send survives a power cut
    connection.pragma("fullfsync", 1)  # macOS: fsync alone does not reach the platter
    connection.pragma("checkpoint_fullfsync", 1)
    connection.pragma("wal_autocheckpoint", 0)  # a thread of its own does that
    connection.pragma("cache_size", -CACHE_KIB)
    connection.pragma("temp_store", 2)
    connection.pragma("mmap_size", 0)  # an I/O error must be an error, not a signal
    connection.pragma("trusted_schema", 0)


def translate(error: apsw.Error, path: Path | str) -> StoreError:
    """Our error for the library's; judged by number, never by text."""
    where = str(path)
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return StoreBusyError(where, BUSY_WAIT_S)
        case apsw.FullError():
            return StoreFullError(where)
        case apsw.ReadOnlyError() | apsw.PermissionsError() | apsw.AuthError():
            return StoreReadOnlyError(where)
        case apsw.CantOpenError():
            return _cannot_open(where)
        case apsw.CorruptError() | apsw.NotADBError():
            return StoreCorruptError(where, str(error))
        case apsw.ConstraintError() if getattr(error, "extendedresult", 0) == apsw.SQLITE_CONSTRAINT_TRIGGER:
            return read_note(str(error).removeprefix("ConstraintError: "), "").refusal()
        case apsw.IOError():
            return OutcomeUnknownError(f"I/O error on `{where}`: {error}")
        case _:
            return StoreError(f"`{where}`: {type(error).__name__}: {error}")


def _cannot_open(where: str) -> StoreError:
    if os.path.isdir(where):
        return StoreUnsupportedError(f"`{where}` is a folder", hint="name a file, as in sqlite:///conveyor.db")
    return StoreReadOnlyError(where)
