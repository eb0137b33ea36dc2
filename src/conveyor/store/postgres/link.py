"""One connection, and how a transaction runs on it. After a lost answer its receipt tells what became of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any, Final, TypeVar

from conveyor.model.clock import Clock
from conveyor.model.ids import IdSource
from conveyor.store.postgres.catalog import EMPTY, Catalog, read_catalog
from conveyor.store.postgres.clock import ServerClock
from conveyor.store.postgres.faults import DRIVER_ERRORS, is_lost
from conveyor.store.postgres.groups import count_members
from conveyor.store.postgres.marks import Marks, spell_put_back
from conveyor.store.postgres.statements import SQL, Beginnings, calls_in
from conveyor.store.postgres.transaction import Connection, Row, Transaction

T = TypeVar("T")

RECEIPT_USES_MAX: Final = 128
CLOSE_S: Final = 2.0


class Durability(IntEnum):
    """What a commit owes."""

    RELAXED = 1
    """Claims, releases, heartbeats: a crash of the server may take them back (synchronous_commit off)."""
    SYNCED = 2
    """Sends and verdicts: on disk before the answer."""


class CommitLostError(Exception):
    """COMMIT was sent and the connection broke: the receipt will tell. Carries what would have been the answer."""

    def __init__(self, writer: bytes, number: int, result: Any, woken: frozenset[str]) -> None:
        super().__init__("the answer to COMMIT was lost")
        self.writer = writer
        self.number = number
        self.result = result
        self.woken = woken


class Shared:
    """What all connections of a store have in common."""

    def __init__(self, schema: str, clock: Clock, server_clock: ServerClock | None) -> None:
        self.beginnings = Beginnings(schema)
        self.calls = calls_in(schema)
        self.clock = clock
        self.server_clock = server_clock
        self.ids = IdSource(clock)
        self.marks = Marks()
        self.catalog: Catalog = EMPTY

    def bound_now(self) -> int | None:
        """The time to bind, or None where the database's own counts."""
        return self.clock.now_ms() if self.server_clock is None else None

    def set_clock(self, now: int) -> None:
        """The server has said what time it is."""
        if self.server_clock is not None:
            self.server_clock.set(now)


class Link:
    """A connection that runs one transaction at a time."""

    def __init__(self, connection: Connection, shared: Shared) -> None:
        self._connection = connection
        self._shared = shared
        self._writer = os.urandom(16)
        self._number = 0
        self.used_at = 0.0

    @property
    def is_open(self) -> bool:
        return not self._connection.is_closed()

    @property
    def shared(self) -> Shared:
        return self._shared

    async def call(self, name: str, *values: Any) -> list[Row]:
        """Call a function of the schema, as a transaction of its own."""
        return await self._connection.fetch(self._shared.calls[name], *values)

    def next_receipt(self) -> tuple[bytes, int]:
        """(writer, number) of the transaction that is about to be committed.

        Under a held snapshot every version of a receipt stays, and is walked past: so no row has very many.
        """
        if self._number == RECEIPT_USES_MAX:
            self._writer, self._number = os.urandom(16), 0
        self._number += 1
        return self._writer, self._number

    async def transact(
        self, work: Callable[[Transaction], Awaitable[T]], durability: Durability, *, exclusive: bool
    ) -> tuple[T, frozenset[str]]:
        """The work's answer after COMMIT, and what the bell is to say: queues to wake, places where messages were put
        back. `CommitLostError`, or whatever the work or the database raise, after a rollback."""
        relaxed = durability is Durability.RELAXED
        try:
            await self._connection.execute(self._shared.beginnings.script(relaxed=relaxed, exclusive=exclusive))
            tx = await self._enter(exclusive=exclusive)
            result = await work(tx)
            if tx.members:
                await count_members(tx)
            has_receipt = await tx.finish(*self.next_receipt())
        except BaseException as error:
            await self._roll_back(error)
            raise
        await self._commit(result, tx, has_receipt=has_receipt)
        if tx.regates:
            self._shared.marks.forget()
        for level, place in tx.put_back.items():
            self._shared.marks.lower(level, place)
        return result, frozenset([*tx.woken, *(spell_put_back(*each) for each in tx.put_back.items())])

    async def _enter(self, *, exclusive: bool) -> Transaction:
        shared = self._shared
        head = await self._connection.fetchrow(SQL["read_head"], shared.bound_now())
        assert head is not None, "a migrated store has one row"
        now, version = head
        shared.set_clock(now)
        tx = Transaction(self._connection, shared.ids, shared.marks, now, holds_catalog=exclusive)
        if shared.catalog.version != version:
            shared.catalog = await read_catalog(tx, version)
        tx.catalog = shared.catalog
        return tx

    async def _commit(self, result: object, tx: Transaction, *, has_receipt: bool) -> None:
        try:
            await self._connection.execute("COMMIT")
        except BaseException as error:
            if has_receipt and is_lost(error):
                raise CommitLostError(self._writer, self._number, result, frozenset(tx.woken)) from error
            raise

    async def _roll_back(self, error: BaseException) -> None:
        if self.is_open and not is_lost(error):
            with contextlib.suppress(*DRIVER_ERRORS):
                await self._connection.execute("ROLLBACK")

    async def has_receipt(self, writer: bytes, number: int) -> bool:
        """Whether that transaction of a connection that broke was committed; waits for one still on its way.

        Synced, so that what is said to be there is also with a standby that commits wait for: the connection may have
        broken in that very wait.
        """

        async def look(tx: Transaction) -> bool:
            found = await tx.row("read_receipt", writer)
            return found is not None and found[0] == number

        found, _ = await self.transact(look, Durability.SYNCED, exclusive=False)
        return found

    async def sees_crowd(self) -> bool:
        """Whether the server is about to run out of connections."""
        return bool(await self._connection.fetchval(SQL["find_crowd"]))

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self._connection.close(timeout=CLOSE_S)

    def drop(self) -> None:
        """It broke: there is nobody to say goodbye to."""
        self._connection.terminate()
