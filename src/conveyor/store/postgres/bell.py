"""LISTEN and NOTIFY on one connection of their own: a hint to the other processes, off the path of every commit.

Commits leave the names of their queues here; they go out in one NOTIFY as soon as the one before has gone. A name lost
with a connection, or swallowed by a pooler, costs a poll.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from conveyor.model.clock import SystemClock
from conveyor.model.errors import StoreError
from conveyor.store.postgres.statements import SQL
from conveyor.store.postgres.transaction import Connection
from conveyor.store.records import ANY_QUEUE

PAYLOAD_BYTES_MAX: Final = 7_999
_PAUSE_S: Final = 1.0


class Bell:
    """`ring` tells the others; `listen` begins to hear them, and `deliver` gets their words."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        channel: str,
        deliver: Callable[[frozenset[str]], None],
    ) -> None:
        self._connect = connect
        self._channel = channel
        self._deliver = deliver
        self._name = os.urandom(8).hex()
        self._names: set[str] = set()
        self._listens = False
        self._is_heard = False
        self._was_heard = False
        self._stirred = asyncio.Event()
        self._patience = SystemClock()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def ring(self, names: frozenset[str]) -> None:
        self._names |= names
        self._stir()

    def listen(self) -> None:
        self._listens = True
        self._stir()

    async def close(self) -> None:
        """Says what is left to say."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            if self._connection is not None and self._names:
                await self._say(self._connection)
        await self._hang_up()

    def _stir(self) -> None:
        self._stirred.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            try:
                await self._attend()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, StoreError):
                await self._hang_up()
                self._names.clear()
                await self._patience.sleep(_PAUSE_S)
                if self._listens:
                    self._stirred.set()

    async def _attend(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await self._connect()
            connection.add_termination_listener(self._lost)
            self._is_heard = False
        if self._listens and not self._is_heard:
            await connection.add_listener(self._channel, self._hear)
            if self._was_heard:
                self._deliver(frozenset([ANY_QUEUE]))  # what was said while we were away
            self._is_heard = self._was_heard = True
        while self._names:
            await self._say(connection)

    async def _say(self, connection: Connection) -> None:
        names, self._names = self._names, set()
        payload = "\n".join([self._name, *names])
        if len(payload.encode()) > PAYLOAD_BYTES_MAX:
            payload = f"{self._name}\n{ANY_QUEUE}"
        await connection.execute(SQL["notify"], self._channel, payload)

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        speaker, *names = str(payload).split("\n")
        if speaker != self._name:
            self._deliver(frozenset(names))

    def _lost(self, _connection: object) -> None:
        if self._task is not None and self._listens:
            self._stirred.set()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._lost)
            with contextlib.suppress(Exception):
                await connection.close(timeout=2)
