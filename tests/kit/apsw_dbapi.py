"""A DB-API layer over apsw, as thin as SQLAlchemy's own dialect for SQLite takes it: `create_engine(url,
module=apsw_dbapi)`. Its connections are apsw's."""

from __future__ import annotations

import itertools
from typing import Any

import apsw

paramstyle = "qmark"
sqlite_version = apsw.sqlite_lib_version()
sqlite_version_info = tuple(int(part) for part in sqlite_version.split("."))
Binary = memoryview
Error = DatabaseError = apsw.Error
IntegrityError = apsw.ConstraintError
OperationalError = ProgrammingError = InterfaceError = InternalError = NotSupportedError = DataError = apsw.SQLError


class Cursor(apsw.Cursor):
    lastrowid = property(lambda self: self.connection.last_insert_rowid())
    rowcount = property(lambda self: self.connection.changes())
    description: Any = None

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self.exec_trace = _note_columns

    def fetchmany(self, size: int = 1) -> list[Any]:
        return list(itertools.islice(self, size))


def _note_columns(cursor: Any, _statement: str, _bindings: Any) -> bool:
    """apsw knows the columns only while a statement runs, SQLAlchemy asks afterwards."""
    cursor.description = tuple((name, *[None] * 6) for name, _ in cursor.get_description()) or None
    return True


class Connection(apsw.Connection):
    isolation_level: str | None = ""

    def create_function(self, name: str, count: int, function: Any, **_options: Any) -> None:
        self.create_scalar_function(name, function, count)

    def commit(self) -> None:
        if self.in_transaction:
            self.execute("COMMIT")

    def rollback(self) -> None:
        if self.in_transaction:
            self.execute("ROLLBACK")


def connect(filename: str, **_options: Any) -> Connection:
    connection = Connection(filename)
    connection.set_busy_timeout(30_000)
    connection.cursor_factory = Cursor
    return connection
