"""The one thread of a process that writes: it takes whatever operations have gathered, and commits them together.

    loop thread     submit(operation) -> future            woken in one go, after COMMIT
    writer thread   get one, take the rest -> BEGIN IMMEDIATE -> run each -> finish -> COMMIT

A domain error fails its caller alone, since operations check before they write. If the database refuses, the group is
rolled back and each operation runs again alone, so that the one at fault does not fail the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import apsw

from conveyor.model.clock import Clock
from conveyor.model.errors import ConveyorError, OutcomeUnknownError, StoreClosedError, StoreError
from conveyor.model.ids import IdSource
from conveyor.store.sqlite.catalog import Catalog
from conveyor.store.sqlite.checkpointer import Checkpointer
from conveyor.store.sqlite.connection import open_connection, translate
from conveyor.store.sqlite.groups import count_members
from conveyor.store.sqlite.transaction import SQL, Transaction

T = TypeVar("T")

GROUP_OPERATIONS_MAX: Final = 1_000
CHECKPOINT_PAGES: Final = 2_000  # 8 MB: then the checkpointer is asked
WAL_PAGES_MAX: Final = 48_000  # 192 MB: then the writer waits for it


class Durability(IntEnum):
    """What a commit owes; a group owes what its strictest operation does."""

    RELAXED = 1
    """Claims, releases, heartbeats: a power cut may take them back (synchronous=NORMAL)."""
    SYNCED = 2
    """Sends and verdicts: on disk before the answer (synchronous=FULL)."""


class Operation:
    """One caller's work and the future that waits for it."""

    __slots__ = ("durability", "error", "future", "result", "run")

    def __init__(
        self, run: Callable[[Transaction], Any], durability: Durability, future: asyncio.Future[Any] | None
    ) -> None:
        self.run = run
        self.durability = durability
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def deliver(self) -> None:
        """On the loop's thread. A caller that was cancelled does not withdraw what was committed."""
        if self.future is None or self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Writer:
    """Group commit over one connection. `on_commit` gets the names of queues to wake and runs on the writer's
    thread."""

    def __init__(
        self, path: Path, clock: Clock, checkpointer: Checkpointer, *, on_commit: Callable[[frozenset[str]], None]
    ) -> None:
        self._path = path
        self._clock = clock
        self._checkpointer = checkpointer
        self._on_commit = on_commit
        self._ids = IdSource(clock)
        self._queue: SimpleQueue[Operation | None] = SimpleQueue()
        self._catalog = Catalog()
        self._connection: apsw.Connection | None = None
        self._synchronous = Durability.SYNCED
        self._thread = threading.Thread(target=self._work, name="conveyor-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._name = os.urandom(16)
        self._groups = 0
        self._wal_pages = 0

    def start(self, connection: apsw.Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Take over a prepared connection; from here on only the writer's thread touches it."""
        self._loop = loop
        self._adopt(connection)
        self._thread.start()

    def submit(self, run: Callable[[Transaction], T], durability: Durability = Durability.SYNCED) -> asyncio.Future[T]:
        """Run an operation in the next commit group; the future is done after COMMIT."""
        if self._loop is None:
            raise StoreClosedError
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(Operation(run, durability, future))
        return future

    def wake_after(self, names: frozenset[str]) -> None:
        """Have these queues woken once whoever holds the file's lock has let go of it."""
        self._queue.put(Operation(lambda tx: tx.woken.update(names), Durability.RELAXED, None))

    def stop(self) -> None:
        """Commit what was submitted, then end. Blocks until the thread is gone."""
        self._loop = None
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _adopt(self, connection: apsw.Connection) -> apsw.Connection:
        self._connection = connection
        self._cursor = connection.cursor()
        self._synchronous = Durability.SYNCED
        connection.set_wal_hook(self._saw_wal)
        return connection

    def _saw_wal(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return 0

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            group, ends = self._gather(first)
            self._commit(group)
            if ends:
                return

    def _gather(self, first: Operation) -> tuple[list[Operation], bool]:
        group = [first]
        while len(group) < GROUP_OPERATIONS_MAX:
            try:
                operation = self._queue.get_nowait()
            except Empty:
                return group, False
            if operation is None:
                return group, True
            group.append(operation)
        return group, False

    def _commit(self, group: list[Operation]) -> None:
        loop = self._loop  # None once the store closes: then nobody waits for the wake-up, only for the result
        try:
            woken = self._transact(group)
        except Exception as error:  # noqa: BLE001 whatever it is, the writer lives on and the callers are told
            self._roll_back()
            if len(group) > 1 and not isinstance(error, apsw.BusyError | OutcomeUnknownError):
                for operation in group:
                    self._commit([operation])
                return
            woken = frozenset()
            for operation in group:
                operation.error = translate(error, self._path) if isinstance(error, apsw.Error) else error
        if woken:
            self._on_commit(woken)  # first: whoever waits for an answer would take the interpreter from us
        _deliver_on(loop or _loop_of(group), group)
        if self._wal_pages >= CHECKPOINT_PAGES:
            self._tend_wal()

    def _transact(self, group: list[Operation]) -> frozenset[str]:
        connection = self._connection or self._adopt(open_connection(self._path, writes=True))
        self._set_synchronous(max(operation.durability for operation in group))
        changes = connection.total_changes()
        self._cursor.execute("BEGIN IMMEDIATE")
        tx = Transaction(self._cursor, self._catalog, self._clock, self._ids)
        for operation in group:
            operation.error = None
            try:
                operation.result = operation.run(tx)
            except ConveyorError as error:
                operation.error = error
        count_members(tx)
        tx.finish()
        if connection.total_changes() != changes:
            self._groups += 1
            tx.run("put_receipt", self._name, self._groups, tx.now)
        try:
            self._cursor.execute("COMMIT")
        except apsw.IOError as error:
            if not self._was_committed(error):
                raise
        return frozenset(tx.woken)

    def _was_committed(self, error: apsw.Error) -> bool:
        """The sync failed, so nobody knows: open the file anew, and look whether the group's receipt is in it.

        The system forgets what it could not write, so a later sync of the WAL proves nothing. What is read there is
        written a second time, to the file itself; once that is synced, it is on the disk.
        """
        self._abandon()
        try:
            connection = self._adopt(open_connection(self._path, writes=True))
            if self._cursor.execute(SQL["read_receipt"], (self._name,)).fetchall() != [(self._groups,)]:
                return False
            in_wal, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except (apsw.Error, StoreError) as second:
            raise OutcomeUnknownError(f"{error}, then {second}") from second
        if moved != in_wal:
            raise OutcomeUnknownError(f"{error}, and a reader keeps it from being written again")
        return True

    def _abandon(self) -> None:
        """Close a connection that cannot be trusted any more; the next group opens another."""
        connection, self._connection = self._connection, None
        self._catalog.forget()
        if connection is not None:
            connection.close(force=True)

    def _roll_back(self) -> None:
        self._catalog.forget()
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except apsw.Error:
            self._abandon()

    def _set_synchronous(self, durability: Durability) -> None:
        if durability != self._synchronous:
            self._cursor.execute(f"PRAGMA synchronous = {int(durability)}")
            self._synchronous = durability

    def _tend_wal(self) -> None:
        """The checkpointer moves the bulk; then the rest is small, and done here the WAL starts anew."""
        is_moved = self._checkpointer.take_moved()
        if not is_moved and self._wal_pages < WAL_PAGES_MAX:
            self._checkpointer.ask()
            return
        mode = apsw.SQLITE_CHECKPOINT_PASSIVE if is_moved else apsw.SQLITE_CHECKPOINT_RESTART
        with contextlib.suppress(apsw.Error):  # a reader holds it: the next commit tries again
            if self._connection is not None:
                self._connection.wal_checkpoint(mode=mode)
                self._wal_pages = 0


def _loop_of(group: list[Operation]) -> asyncio.AbstractEventLoop | None:
    return next((operation.future.get_loop() for operation in group if operation.future is not None), None)


def _deliver_on(loop: asyncio.AbstractEventLoop | None, group: list[Operation]) -> None:
    if loop is None or loop.is_closed():
        return
    loop.call_soon_threadsafe(_deliver, group)


def _deliver(group: list[Operation]) -> None:
    for operation in group:
        operation.deliver()
