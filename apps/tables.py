"""An app's own tables: one SQLite connection on a thread of its own, statements by name, transactions that wait."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

T = TypeVar("T")
Row = tuple[Any, ...]
Value = str | float | bytes | None

BUSY_MS: Final = 15_000
MARK: Final = "-- name: "


def read_statements(package: str, name: str) -> Mapping[str, str]:
    """The named statements of a `.sql` file of an app; `schema` makes the tables that are not there."""
    text = (files(package) / name).read_text(encoding="utf-8")
    parts = (part.partition("\n") for part in text.split(MARK)[1:])
    return {title.strip(): sql.strip() for title, _, sql in parts}


class Transaction:
    """What work on the database thread may do: named statements, all or none of them."""

    def __init__(self, connection: apsw.Connection, statements: Mapping[str, str], now_ms: int) -> None:
        self._connection = connection
        self._statements = statements
        self.now_ms = now_ms

    @property
    def connection(self) -> apsw.Connection:
        """For `tx=`: what is sent to a queue of the same file is part of this transaction."""
        return self._connection

    def rows(self, statement: str, **values: Value) -> list[Row]:
        """Run a statement; `:now` is bound for those that want it."""
        bindings: dict[str, Value] = {"now": self.now_ms, **values}
        return list(self._connection.execute(self._statements[statement], bindings))

    def change(self, statement: str, **values: Value) -> int:
        """Run a statement and say how many rows it changed."""
        self.rows(statement, **values)
        return self._connection.changes()


class Database:
    """The file. Durable: WAL with `synchronous=FULL`."""

    def __init__(self, path: Path, statements: Mapping[str, str], now_ms: Callable[[], int]) -> None:
        self._path = path
        self._statements = statements
        self._now_ms = now_ms
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"{path.stem}-db")
        self._connection: apsw.Connection | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    async def open(self) -> None:
        """Open the file and make the tables that are not there."""
        await self._run(self._open)

    async def close(self) -> None:
        """Close the file; what was asked before is done first."""
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Do the work in one transaction that holds the write lock from its start."""
        return await self._run(lambda: self._transact("BEGIN IMMEDIATE", work))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Do the work on one snapshot."""
        return await self._run(lambda: self._transact("BEGIN", work))

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = apsw.Connection(str(self._path))
        connection.set_busy_timeout(BUSY_MS)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("BEGIN IMMEDIATE;\n" + self._statements["schema"] + "\nCOMMIT;").fetchall()
        self._connection = connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _transact(self, begin: str, work: Callable[[Transaction], T]) -> T:
        connection = self._connection
        if connection is None:
            raise RuntimeError(f"the database `{self._path}` is not open")
        connection.execute(begin)
        try:
            result = work(Transaction(connection, self._statements, self._now_ms()))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result
