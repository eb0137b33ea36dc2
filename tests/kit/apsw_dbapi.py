"""A DB-API layer over apsw, as thin as SQLAlchemy's own SQLite dialect takes it: `create_engine(url, module=apsw_dbapi)`.

A connection is an apsw connection; a transaction begins as a writer, with the first statement.
"""

from __future__ import annotations

import itertools
from typing import Any

import apsw

apilevel, paramstyle, threadsafety = "2.0", "qmark", 1
sqlite_version = apsw.sqlite_lib_version()
sqlite_version_info = tuple(int(part) for part in sqlite_version.split("."))
PARSE_DECLTYPES = PARSE_COLNAMES = 0
Binary = memoryview
Error = DatabaseError = apsw.Error
IntegrityError = apsw.ConstraintError
OperationalError = ProgrammingError = InterfaceError = InternalError = NotSupportedError = DataError = apsw.SQLError


class Cursor(apsw.Cursor):
    arraysize = 1
    columns: Any = None

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self.exec_trace = _note_columns

    def execute(self, statements: str, bindings: Any = None, **options: Any) -> Any:
        connection = self.connection
        if not connection.in_transaction and not statements.lstrip().upper().startswith("PRAGMA"):
            apsw.Cursor(connection).execute("BEGIN IMMEDIATE")
        return super().execute(statements, bindings, **options)

    def fetchmany(self, size: int = arraysize) -> list[Any]:
        return list(itertools.islice(self, size))

    @property
    def description(self) -> Any:
        return self.columns

    @property
    def lastrowid(self) -> int:
        return self.connection.last_insert_rowid()

    @property
    def rowcount(self) -> int:
        return self.connection.changes()


def _note_columns(cursor: Any, _statement: str, _bindings: Any) -> bool:
    """apsw knows the columns only while a statement runs, SQLAlchemy asks afterwards."""
    cursor.columns = tuple((name, *[None] * 6) for name, _ in cursor.get_description()) or None
    return True


class Connection(apsw.Connection):
    isolation_level = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = Cursor

    def create_function(self, name: str, count: int, function: Any, **_options: Any) -> None:
        self.create_scalar_function(name, function, count)

    def commit(self) -> None:
        if self.in_transaction:
            apsw.Cursor(self).execute("COMMIT")

    def rollback(self) -> None:
        if self.in_transaction:
            apsw.Cursor(self).execute("ROLLBACK")


def connect(filename: str, **_options: Any) -> Connection:
    return Connection(filename)
