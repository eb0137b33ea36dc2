"""Reads many rows of the app's database and is in nobody's way: one read-only connection on a thread of its own.

Rows come in pages, each a short read that begins behind the row before it. One long read would see one state of
everything, but while it lasts the database cannot clear its log, which then grows with all that is written meanwhile.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import apsw

T = TypeVar("T")
Bindings = Mapping[str, str | int | None]

BUSY_MS: Final = 15_000
CACHE_KIB: Final = 8_192
"""Pages of the file that SQLite may keep; each is read once."""


class Reader:
    """`async with Reader(path, statements) as reader: await reader.run(lambda: reader.rows("name", {...}))`."""

    def __init__(self, path: Path, statements: Mapping[str, str]) -> None:
        self._path = path
        self._statements = statements
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="export")
        self._connection: apsw.Connection | None = None

    async def __aenter__(self) -> Self:
        await self.run(self._open)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            await asyncio.shield(self.run(self._close))
        finally:
            self._thread.shutdown(wait=False)

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work on the thread. Who is cancelled meanwhile comes back when the thread is free; what SQLite is at
        is cut short."""
        doing = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            if self._connection is not None:
                self._connection.interrupt()
            with contextlib.suppress(Exception):
                await doing
            raise

    def rows(self, statement: str, values: Bindings) -> list[tuple[Any, ...]]:
        """Run a named statement; only within `run`."""
        if self._connection is None:
            raise RuntimeError("the reader is not open")
        return list(self._connection.execute(self._statements[statement], values))

    def _open(self) -> None:
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(BUSY_MS)
        connection.execute("PRAGMA query_only=ON; PRAGMA temp_store=MEMORY").fetchall()
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}").fetchall()
        self._connection = connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
