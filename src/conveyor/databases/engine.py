"""Runs statements that somebody else wrote on one SQLite file, in one transaction, and lets none of them leave that
file, run for ever, or answer without end. The only room beside the stores that talks to SQLite; no file of it is a
store's."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from conveyor.model.beside import QueryError
from conveyor.model.errors import NotFoundError, StoreBusyError
from conveyor.store.chosen import make_folder

TIME_S: Final = 30.0
VALUE_BYTES_MAX: Final = 2_000_000
SQL_BYTES_MAX: Final = 1_000_000
FILE_BYTES_MAX: Final = 10_000_000_000
ROWS_MAX: Final = 100_000
ANSWER_BYTES_MAX: Final = 32_000_000
BUSY_MS: Final = 5_000
_STEPS: Final = 10_000
"""Of SQLite's machine, between two looks at the clock: some 0.2 ms."""

_PRAGMAS: Final = frozenset({
    "table_list", "table_info", "table_xinfo", "index_list", "index_info", "index_xinfo", "foreign_key_list",
    "foreign_key_check", "quick_check", "optimize", "defer_foreign_keys", "legacy_alter_table", "function_list",
    "data_version", "user_version",
})  # fmt: skip
_ONLY_READ: Final = frozenset({"data_version", "user_version"})
_MODULES: Final = frozenset({"fts5", "fts5vocab", "rtree", "rtree_i32"})
_FUNCTIONS_REFUSED: Final = frozenset({"load_extension", "fts3_tokenizer", "sqlite_log"})
_ACTIONS_REFUSED: Final = frozenset({
    apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH, apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT,
})  # fmt: skip


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """SQL, of one statement or several, and the values of its parameters in order."""

    sql: str
    params: list[Any] | None = None


class Result(msgspec.Struct, kw_only=True):
    """What one statement gave."""

    columns: list[str] = []
    rows: list[list[Any]] = []
    duration_ms: float = 0.0
    changes: int = 0
    rows_read: int = 0
    """The more of those it returned, and those it walked over for want of an index."""
    last_row_id: int = 0
    size_after: int = 0


def run(
    path: Path, batch: Sequence[Statement], monotonic: Callable[[], float], *, seconds: float = TIME_S
) -> list[Result]:
    """One result per statement, all of them or none. `QueryError`; `StoreBusyError` while somebody else writes.
    `NotFoundError` if the file is gone."""
    with contextlib.closing(_open(path)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = _Run(connection, monotonic, seconds).results(batch)
            connection.execute("COMMIT")
            size = connection.pragma("page_count") * connection.pragma("page_size")
        except (apsw.BusyError, apsw.LockedError) as error:
            raise StoreBusyError("the database", BUSY_MS / 1000) from error
        except apsw.InterruptError as error:
            raise QueryError(f"it ran longer than {seconds:g} s", hint="split it, or add an index") from error
        except (apsw.Error, ValueError, TypeError, OverflowError, UnicodeError) as error:
            raise _explain(error) from error
    return [msgspec.structs.replace(each, size_after=size) for each in results]


def make(path: Path) -> None:
    """An empty database."""
    make_folder(path.parent)
    with contextlib.closing(_open(path, flags=apsw.SQLITE_OPEN_CREATE)) as connection:
        connection.execute("PRAGMA user_version = 0")  # or the file would stay empty


def count_tables(path: Path) -> int:
    """The user's. `NotFoundError` if the file is gone."""
    with contextlib.closing(_open(path)) as connection:
        rows = list(connection.execute("PRAGMA table_list"))
    return sum(1 for _, name, kind, *_ in rows if kind == "table" and not str(name).startswith("sqlite_"))


def _open(path: Path, *, flags: int = 0) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW | flags)
    except apsw.CantOpenError as error:
        raise NotFoundError(
            "the database's file is gone", hint="all processes need the same folder: set CONVEYOR_FILES"
        ) from error
    connection.set_busy_timeout(BUSY_MS)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", 2)
    connection.pragma("foreign_keys", 1)
    connection.pragma("max_page_count", FILE_BYTES_MAX // connection.pragma("page_size"))
    for limit, value in (
        (apsw.SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX),
        (apsw.SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES_MAX),
        (apsw.SQLITE_LIMIT_ATTACHED, 0),
        (apsw.SQLITE_LIMIT_WORKER_THREADS, 0),
        (apsw.SQLITE_LIMIT_EXPR_DEPTH, 200),
    ):
        connection.limit(limit, value)
    return connection


class _Run:
    """A request's statements, watched."""

    def __init__(self, connection: apsw.Connection, monotonic: Callable[[], float], seconds: float) -> None:
        self._connection = connection
        self._monotonic = monotonic
        self._until = monotonic() + seconds
        self._begun: Result | None = None
        self._began = 0.0
        self._ended: list[Result] = []
        self._changes = connection.total_changes()
        self._bytes = 0

    def results(self, batch: Sequence[Statement]) -> list[Result]:
        connection = self._connection
        connection.authorizer = _judge
        connection.set_progress_handler(lambda: self._monotonic() > self._until, _STEPS)
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._end)
        try:
            for statement in batch:
                self._take(statement)
        finally:
            connection.trace_v2(0, None)
            connection.authorizer = None
            connection.set_progress_handler(None)
        return self._ended

    def _take(self, statement: Statement) -> None:
        cursor = self._connection.cursor()
        cursor.exec_trace = self._begin
        values = [_bound(each) for each in statement.params or ()]
        for row in cursor.execute(statement.sql, values, can_cache=False):
            shown = [_shown(value) for value in row]
            self._bytes += sum(len(each) if isinstance(each, (str, list)) else 8 for each in shown)
            assert self._begun is not None
            rows = self._begun.rows
            rows.append(shown)
            if len(rows) > ROWS_MAX or self._bytes > ANSWER_BYTES_MAX:
                raise QueryError(
                    f"it answers with more than {ROWS_MAX:,} rows or {ANSWER_BYTES_MAX:,} bytes", hint="use LIMIT"
                )

    def _begin(self, cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
        self._begun = Result(columns=[each[0] for each in cursor.get_description()], rows=[])
        self._began = self._monotonic()
        return True

    def _end(self, told: dict[str, Any]) -> None:
        """Once for each statement, after its last row; a comment is none."""
        result, changes = self._begun, self._connection.total_changes()
        if result is None:
            return
        self._begun = None
        self._ended.append(result)
        steps = told["stmt_status"]["SQLITE_STMTSTATUS_FULLSCAN_STEP"]
        result.duration_ms = (self._monotonic() - self._began) * 1000
        result.changes, self._changes = changes - self._changes, changes
        result.rows_read = max(len(result.rows), steps + 1 if steps else 0)
        result.last_row_id = self._connection.last_insert_rowid()


def _judge(action: int, first: str | None, second: str | None, _database: str | None, _by: str | None) -> int:
    """Whether a statement may do this. It is asked while the statement is prepared, before anything happens."""
    refused = action in _ACTIONS_REFUSED
    match action:
        case apsw.SQLITE_PRAGMA:
            name = (first or "").lower()
            refused = name not in _PRAGMAS or (name in _ONLY_READ and second is not None)
        case apsw.SQLITE_FUNCTION:
            refused = (second or "").lower() in _FUNCTIONS_REFUSED
        case apsw.SQLITE_CREATE_VTABLE:
            refused = (second or "").lower() not in _MODULES
    return apsw.SQLITE_DENY if refused else apsw.SQLITE_OK


def _bound(value: object) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list):  # a blob, as JSON has none
        return bytes(value)
    if isinstance(value, dict):
        raise QueryError(
            "a parameter is an object", hint="a parameter is a number, text, true, false, null, or bytes as a list"
        )
    return value


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has none
    return value


def _explain(error: Exception) -> QueryError:
    """In SQLite's words, with the name of its code, as D1 says it."""
    if isinstance(error, apsw.BindingsError):
        hint = "as many `params` as the SQL has `?`"
        return QueryError("Wrong number of parameter bindings for SQL query.", hint=hint)
    if isinstance(error, apsw.AuthError):
        hint = "no ATTACH, no transactions of your own, and no PRAGMA that writes"
        return QueryError("not authorized: SQLITE_AUTH", hint=hint)
    if not isinstance(error, apsw.Error):
        hint = "numbers have 64 bits, and text is UTF-8"
        return QueryError(f"a parameter cannot be bound: {type(error).__name__}", hint=hint)
    name = next(_names_of(error), "SQLITE_ERROR")
    words = str(error).removeprefix(f"{type(error).__name__}: ")
    return QueryError(f"{words}: {name}")


def _names_of(error: apsw.Error) -> Iterator[str]:
    number = getattr(error, "result", None)
    found = apsw.mapping_result_codes.get(number) if isinstance(number, int) else None
    if isinstance(found, str):
        yield found
