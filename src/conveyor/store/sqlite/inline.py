"""The SQLite store without its threads: each operation is a commit of its own, and done when it was submitted.

For the simulation, which has neither threads nor sockets; the SQL, the catalog and the transactions are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

import apsw

from conveyor.store.protocol import Wake
from conveyor.store.sqlite.checkpointer import Checkpointer
from conveyor.store.sqlite.opening import open_store
from conveyor.store.sqlite.store import SQLiteStore
from conveyor.store.sqlite.transaction import Transaction
from conveyor.store.sqlite.writer import Durability, Operation, Writer

T = TypeVar("T")


class InlineWriter(Writer):
    """Commits on the caller's thread."""

    def start(self, connection: apsw.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._adopt(connection)

    def submit(self, run: Callable[[Transaction], T], durability: Durability = Durability.SYNCED) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        operation = Operation(run, durability, future)
        self._commit([operation])
        operation.deliver()
        return future


class InlineStore(SQLiteStore):
    """A `SQLiteStore` that tells whoever subscribed within its own process, at once."""

    async def open(self) -> None:
        connection, _ = open_store(self._path)
        self._writer = InlineWriter(self._path, self._clock, Checkpointer(self._path), on_commit=self._tell)
        self._writer.start(connection, asyncio.get_running_loop())

    async def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.stop()

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        self._wakes.append(wake)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._wakes.remove(wake)

        return unsubscribe

    def _tell(self, names: frozenset[str]) -> None:
        self._notify(names)
