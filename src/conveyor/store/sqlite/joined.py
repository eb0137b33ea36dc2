"""Sends and acks inside the user's own transaction: on the user's apsw connection, in the caller's thread.

The file's write lock is taken first, as `BEGIN IMMEDIATE` would, and a savepoint keeps each operation whole. A commit
hook beside the user's own tells the writer which queues to wake: its next `BEGIN IMMEDIATE` waits for the end of the
user's COMMIT, so the wake-up comes when there is something to find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import apsw

from conveyor.model.clock import Clock
from conveyor.model.errors import InvalidTransactionError, StoreBusyError, StoreError
from conveyor.model.ids import IdSource
from conveyor.model.message import Draft, Lease, Sent
from conveyor.model.settings import QueueSettings
from conveyor.store.joining import find_connection, is_from
from conveyor.store.sqlite import append, settle
from conveyor.store.sqlite.catalog import Catalog
from conveyor.store.sqlite.connection import translate
from conveyor.store.sqlite.groups import count_members
from conveyor.store.sqlite.transaction import SQL, Row, Transaction

T = TypeVar("T")

Ring: TypeAlias = Callable[[frozenset[str]], None]
"""Told the names of queues while their COMMIT runs, in the thread that commits; must neither wait nor raise."""

_BEGIN: Final = "begin it with `BEGIN IMMEDIATE`, and let it wait: `connection.set_busy_timeout(30_000)`"
_DEPTH_MAX: Final = 3
"""Wrappers around an apsw connection: a cursor of a DB-API layer over it has two."""


class Bells:
    """The queues to wake after the COMMIT of each user's connection."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._bells: WeakKeyDictionary[apsw.Connection, _Bell] = WeakKeyDictionary()

    def hang(self, connection: apsw.Connection, names: set[str]) -> None:
        """Ring for these queues once the connection commits; not if it rolls back."""
        bell = self._bells.get(connection)
        if bell is None:
            bell = self._bells[connection] = _Bell(self._ring)
            connection.set_commit_hook(bell.ring, id=bell)  # hooks with an id leave the user's alone
            connection.set_rollback_hook(bell.names.clear, id=bell)
        bell.names |= names


class _Bell:
    def __init__(self, ring: Ring) -> None:
        self.names: set[str] = set()
        self._ring = ring

    def ring(self) -> bool:
        """The commit hook; True would turn the COMMIT into a rollback."""
        if self.names:
            self._ring(frozenset(self.names))
            self.names.clear()
        return False


class JoinedTransaction:
    """`Joined` on an apsw connection. No method waits, so that the caller's thread runs each in one go."""

    def __init__(self, connection: apsw.Connection, path: Path, clock: Clock, bells: Bells) -> None:
        self._connection = connection
        self._path = path
        self._clock = clock
        self._bells = bells

    async def get_settings(self, queue: str) -> QueueSettings:
        return self._run(lambda tx: tx.catalog.get(tx, queue).settings)

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        return self._run(lambda tx: append.append(tx, drafts))

    async def ack(self, owner: int, lease: Lease) -> None:
        self._run(lambda tx: settle.ack_or_lose(tx, owner, lease))

    def _run(self, operation: Callable[[Transaction], T]) -> T:
        """One operation, all of it or nothing; what it did before the user's ROLLBACK, if one comes, is undone too."""
        cursor = apsw.Cursor(self._connection)  # not by `cursor()`, which is the user's to shape
        cursor.row_trace = _as_it_is
        last_rowid = self._connection.last_insert_rowid()  # the user may not have asked for it yet
        try:
            self._lock(cursor)
            cursor.execute("SAVEPOINT conveyor")
            try:
                tx = Transaction(cursor, Catalog(), self._clock, IdSource(self._clock))
                result = operation(tx)
                count_members(tx)
                tx.finish()
            except BaseException:
                self._undo(cursor)
                raise
            cursor.execute("RELEASE conveyor")
        except apsw.BusyError as error:
            raise self._busy(error) from error
        except apsw.Error as error:
            raise translate(error, self._path) from error
        self._connection.set_last_insert_rowid(last_rowid)
        if tx.woken:
            self._bells.hang(self._connection, tx.woken)
        return result

    def _lock(self, cursor: apsw.Cursor) -> None:
        """Before anything is read: a reader cannot become a writer once somebody else has written."""
        if self._connection.txn_state("main") != apsw.SQLITE_TXN_WRITE:
            cursor.execute(SQL["take_write_lock"])

    def _undo(self, cursor: apsw.Cursor) -> None:
        if self._connection.in_transaction:  # a full disk ends it all
            cursor.execute("ROLLBACK TO conveyor")
            cursor.execute("RELEASE conveyor")

    def _busy(self, error: apsw.BusyError) -> StoreError:
        problem = f"`{self._path}` is locked by another writer"
        if getattr(error, "extendedresult", None) == apsw.SQLITE_BUSY_SNAPSHOT:
            problem = f"the transaction began as a reader, and somebody has written to `{self._path}` since"
        return StoreBusyError(str(self._path), problem=problem, hint=_BEGIN)


def _as_it_is(_cursor: apsw.Cursor, row: Row) -> Row:
    """In the place of a row tracer of the user's."""
    return row


def read_connection(tx: object, path: Path) -> apsw.Connection:
    """The apsw connection of an open transaction on this file. `InvalidTransactionError`."""
    try:
        connection = _unwrap(tx)
        if getattr(connection, "is_async", False):
            raise InvalidTransactionError(tx, "apsw's async connections run elsewhere", hint="use a plain connection")
        filename, is_open = connection.filename, connection.in_transaction
    except (apsw.ConnectionClosedError, apsw.CursorClosedError):
        raise InvalidTransactionError(tx, "it is closed") from None
    if not _is_same(filename, path):
        raise InvalidTransactionError(
            tx,
            f"its file is `{filename or ':memory:'}`, the queue's is `{path}`",
            hint=f"keep both in one file: `apsw.Connection({str(path)!r})`",
        )
    if not is_open:
        raise InvalidTransactionError(tx, "no transaction is open on it", hint=_BEGIN)
    return connection


def _is_same(filename: str, path: Path) -> bool:
    try:
        return Path(filename).samefile(path) if filename else False
    except OSError:  # one of them is no longer there
        return False


def _unwrap(tx: object) -> apsw.Connection:
    """An SQLAlchemy session or connection, a cursor, or a DB-API layer's connection: whatever stands on apsw."""
    part: Any = find_connection(tx)
    for _ in range(_DEPTH_MAX):
        if isinstance(part, apsw.Connection):
            return part
        if is_from(part, "sqlite3", "_sqlite3", "aiosqlite", "pysqlite3"):
            raise InvalidTransactionError(
                tx,
                "a second SQLite library on one file drops the locks of the first",
                hint="use apsw for this file, `apsw.Connection(...)`, or keep your tables in another file",
            )
        part = getattr(part, "connection", None)
    raise InvalidTransactionError(tx, "it stands on no apsw connection", hint="give an `apsw.Connection`")
