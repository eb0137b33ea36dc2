"""The user's connection, whatever its driver: it runs a statement inside the transaction that is open on it.

    asyncpg                      as it is, on its own event loop
    psycopg 3, async             as it is
    SQLAlchemy 2, async          through SQLAlchemy, which may have to begin first
    psycopg 3, SQLAlchemy 2      in the user's thread if it waits in `run_sync`; else here, and the event loop waits
    Django                       in the user's thread, where alone Django allows it

Nothing is set, prepared by name or left behind on it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

from conveyor.model.errors import ConveyorError, InvalidTransactionError
from conveyor.store.joining import find_caller, is_from
from conveyor.store.postgres.faults import translate
from conveyor.store.postgres.statements import UserStatement

T = TypeVar("T")

Row: TypeAlias = "tuple[Any, ...]"  # the columns of the statement, as every driver reads them

_TAKEN: Final = "give a connection of psycopg 3, asyncpg, SQLAlchemy 2 over one of them, or Django over psycopg 3"
_FAILED: Final = "25P02"
_READ_ONLY: Final = "25006"
_NOT_ALLOWED: Final = "42501"


class Borrowed:
    """A connection with the user's transaction; `start` comes first."""

    begin = "begin one first: `with connection.transaction():`"

    def __init__(self, tx: Any) -> None:
        self.tx = tx

    async def start(self) -> None:
        """`InvalidTransactionError` if nothing can be run on it."""
        if self.tx.closed:
            raise InvalidTransactionError(self.tx, "it is closed")

    async def fetch(self, statement: UserStatement, values: dict[str, Any]) -> list[Row]:
        """What the statement answers."""
        raise NotImplementedError

    @property
    def driver(self) -> Any:
        """The connection of psycopg or asyncpg under it."""
        return self.tx

    @property
    def is_open(self) -> bool:
        """Whether a transaction is open on it. Drivers begin one by themselves, so ask after a statement."""
        return str(self.driver.info.transaction_status.name) != "IDLE"


class _Asyncpg(Borrowed):
    begin = "begin one first: `async with connection.transaction():`"

    async def start(self) -> None:
        _check_loop(self.tx, self.driver)
        if self.tx.is_closed():
            raise InvalidTransactionError(self.tx, "it is closed")

    async def fetch(self, statement: UserStatement, values: dict[str, Any]) -> list[Row]:
        return [tuple(row) for row in await self.tx.fetch(statement.numbered, *statement.order(values))]

    @property
    def driver(self) -> Any:
        return getattr(self.tx, "_con", self.tx)  # what a pool hands out is a proxy, another each time

    @property
    def is_open(self) -> bool:
        return bool(self.tx.is_in_transaction())


class _AsyncPsycopg(Borrowed):
    begin = "begin one first: `async with connection.transaction():`"

    async def fetch(self, statement: UserStatement, values: dict[str, Any]) -> list[Row]:
        from psycopg import AsyncCursor  # whoever has such a connection has it
        from psycopg.rows import tuple_row

        async with AsyncCursor(self.tx, row_factory=tuple_row) as cursor:  # `cursor()` is the user's to shape
            await cursor.execute(_as_written(statement.named), values, prepare=False)
            return await cursor.fetchall()


class _Psycopg(Borrowed):
    async def fetch(self, statement: UserStatement, values: dict[str, Any]) -> list[Row]:
        return await _in_users_thread(lambda: self._fetch(statement, values))

    def _fetch(self, statement: UserStatement, values: dict[str, Any]) -> list[Row]:
        from psycopg import Cursor
        from psycopg.rows import tuple_row

        with Cursor(self.tx, row_factory=tuple_row) as cursor:
            cursor.execute(_as_written(statement.named), values, prepare=False)
            return cursor.fetchall()


class _Alchemy(Borrowed):
    """A `Session` or a `Connection`."""

    begin = "its engine is set to AUTOCOMMIT: give this connection another isolation level"
    _connection: Any

    async def start(self) -> None:
        self._connection = await _in_users_thread(self._find)
        _check_dialect(self.tx, self._connection.dialect)

    def _find(self) -> Any:
        return self.tx.connection() if hasattr(self.tx, "get_bind") else self.tx

    async def fetch(self, statement: UserStatement, values: dict[str, Any]) -> list[Row]:
        return await _in_users_thread(lambda: self._fetch(statement, values))

    def _fetch(self, statement: UserStatement, values: dict[str, Any]) -> list[Row]:
        return [tuple(row) for row in self._connection.exec_driver_sql(statement.named, values)]

    @property
    def driver(self) -> Any:
        return self._connection.connection.driver_connection


class _AsyncAlchemy(Borrowed):
    """An `AsyncSession` or an `AsyncConnection`."""

    begin = _Alchemy.begin
    _connection: Any

    async def start(self) -> None:
        self._connection = await self.tx.connection() if hasattr(self.tx, "sync_session") else self.tx
        if self._connection.sync_connection is None:
            raise InvalidTransactionError(self.tx, "it is not started", hint="`async with engine.begin() as tx:`")
        _check_dialect(self.tx, self._connection.dialect)
        _check_loop(self.tx, self.driver)

    async def fetch(self, statement: UserStatement, values: dict[str, Any]) -> list[Row]:
        is_numbered = self._connection.dialect.driver == "asyncpg"
        said = await (
            self._connection.exec_driver_sql(statement.numbered, statement.order(values))
            if is_numbered
            else self._connection.exec_driver_sql(statement.named, values)
        )
        return [tuple(row) for row in said]

    @property
    def driver(self) -> Any:
        return self._connection.sync_connection.connection.driver_connection

    @property
    def is_open(self) -> bool:
        if self._connection.dialect.driver == "asyncpg":
            return bool(self.driver.is_in_transaction())
        return super().is_open


class _Django(Borrowed):
    begin = "begin one first: `with transaction.atomic():`"
    _connection: Any

    async def start(self) -> None:
        if find_caller() is None:
            raise InvalidTransactionError(
                self.tx,
                "Django's connections do not work on an event loop",
                hint="send from sync code: `app.run_sync(queue.send(body, tx=connection))`",
            )
        self._connection = await _in_users_thread(self._find)
        if not is_from(self.driver, "psycopg"):
            raise InvalidTransactionError(self.tx, "it does not stand on psycopg 3", hint=_TAKEN)

    def _find(self) -> Any:
        """`django.db.connection` stands for another one in each thread."""
        connect = self.tx.ensure_connection
        connect()
        return connect.__self__

    async def fetch(self, statement: UserStatement, values: dict[str, Any]) -> list[Row]:
        return await _in_users_thread(lambda: self._fetch(statement, values))

    def _fetch(self, statement: UserStatement, values: dict[str, Any]) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement.named, values)
            rows: list[Row] = cursor.fetchall()
            return rows

    @property
    def driver(self) -> Any:
        return self._connection.connection


def borrow(tx: Any) -> Borrowed:
    """`InvalidTransactionError` if it is no connection that this store can use."""
    if is_from(tx, "sqlalchemy") and hasattr(tx, "in_nested_transaction"):
        return _AsyncAlchemy(tx) if hasattr(tx, "sync_session") or hasattr(tx, "sync_connection") else _Alchemy(tx)
    if is_from(tx, "asyncpg") and hasattr(tx, "is_in_transaction"):
        return _Asyncpg(tx)
    if is_from(tx, "psycopg") and hasattr(tx, "cursor"):
        return _AsyncPsycopg(tx) if inspect.iscoroutinefunction(tx.commit) else _Psycopg(tx)
    if is_from(tx, "django") and hasattr(tx, "vendor"):
        return _Django(tx)
    raise InvalidTransactionError(tx, "this store cannot send on it", hint=_TAKEN)


async def _in_users_thread(job: Callable[[], T]) -> T:
    caller = find_caller()
    return job() if caller is None else await caller.do(job)


def _check_loop(tx: object, driver: Any) -> None:
    """asyncpg's connections belong to the event loop in which they were made."""
    if getattr(driver, "_loop", None) not in {None, asyncio.get_running_loop()}:
        raise InvalidTransactionError(
            tx, "it belongs to another event loop than the app", hint="open the app in the loop of the connection"
        )


def _check_dialect(tx: object, dialect: Any) -> None:
    if dialect.name != "postgresql" or dialect.driver not in {"asyncpg", "psycopg", "psycopg_async"}:
        raise InvalidTransactionError(tx, f"it stands on {dialect.name}+{dialect.driver}", hint=_TAKEN)


def _as_written(text: str) -> Any:
    """psycopg asks for a literal, lest somebody put a statement together; these stand in a file."""
    return text


def explain(tx: object, error: Exception, where: str) -> Exception:
    """What to raise for what the user's driver raised."""
    if isinstance(error, ConveyorError):
        return error
    root = _root(error)
    state = str(getattr(root, "sqlstate", None) or "")
    if state == _FAILED:
        return InvalidTransactionError(tx, "its transaction has failed", hint="roll it back and begin again")
    if state == _READ_ONLY:
        return InvalidTransactionError(tx, "its transaction is read-only")
    if state == _NOT_ALLOWED:
        hint = "GRANT USAGE on the schema and its tables to that role, or connect as the role of CONVEYOR_URL"
        return InvalidTransactionError(tx, f"its role may not do that: {root}", hint=hint)
    if not state:
        return InvalidTransactionError(tx, f"it cannot be used: {error}")
    return translate(_Said(state, getattr(getattr(root, "diag", None), "message_primary", None) or str(root)), where)


class _Said(Exception):
    """A server's error by any driver, in the server's own words."""

    def __init__(self, sqlstate: str, words: str) -> None:
        super().__init__(words)
        self.sqlstate = sqlstate


def _root(error: BaseException) -> BaseException:
    """The driver's own error: SQLAlchemy keeps it as `orig`, Django and SQLAlchemy's asyncpg as the cause."""
    for _ in range(4):
        if getattr(error, "sqlstate", None):
            break
        error = getattr(error, "orig", None) or error.__cause__ or error
    return error
