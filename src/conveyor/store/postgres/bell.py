"""LISTEN and NOTIFY on one connection of their own: a hint to the other processes, off the path of every commit.

Commits leave the names of their queues here; they go out in one NOTIFY as soon as the one before has gone. A name lost
with a connection, or swallowed by a pooler, costs a poll. A listener calls itself now and then: a connection that has
died in silence, or does not listen at all, is found out by the echo that does not come.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Callable, Iterable
from typing import Final

from conveyor.model.errors import StoreError
from conveyor.store.postgres.door import Door
from conveyor.store.postgres.faults import DRIVER_ERRORS
from conveyor.store.postgres.statements import SQL
from conveyor.store.postgres.transaction import Connection
from conveyor.store.records import ANY_QUEUE

PAYLOAD_BYTES_MAX: Final = 7_999
PROBE_S: Final = 15.0
"""A listener calls itself this often."""
ECHO_S: Final = 5.0
"""How long the echo may take."""
CLOSE_S: Final = 1.0
QUIET_S: Final = 0.005
PAUSE_S_FIRST: Final = 1.0
PAUSE_S_MAX: Final = 300.0
"""Between tries of one that is never heard: there is a pooler in between that does not say so."""


class Bell:
    """`ring` tells the others; `listen` begins to hear them, and `deliver` gets their words."""

    def __init__(
        self,
        door: Door,
        channel: str,
        deliver: Callable[[frozenset[str]], None],
        *,
        probe_s: float = PROBE_S,
        echo_s: float = ECHO_S,
    ) -> None:
        self._door = door
        self._channel = channel
        self._deliver = deliver
        self._probe_s = probe_s
        self._echo_s = echo_s
        self._name = os.urandom(8).hex()
        self._names: set[str] = set()
        self._said_at = -math.inf
        self._listens = False
        self._is_heard = False
        self._was_heard = False
        self._probe_at = -math.inf
        self._echo = asyncio.Event()
        self._stirred = asyncio.Event()
        self._pause_s = PAUSE_S_FIRST
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def ring(self, names: frozenset[str]) -> None:
        self._names |= names
        self._stir()

    @property
    def is_quiet(self) -> bool:
        """Nothing was said for a while: what is said with a COMMIT arrives with it, and nearly for nothing."""
        return not self._names and self._door.now() - self._said_at >= QUIET_S

    def say_with_commit(self, names: frozenset[str]) -> str:
        """The words that tell of these queues, for a transaction that is about to be committed."""
        self._said_at = self._door.now()
        return self._words(names)

    def listen(self) -> None:
        """Behind a pooler nothing would be heard."""
        self._listens = not self._door.is_pooled
        self._stir()

    async def close(self) -> None:
        """Says what is left to say."""
        task, self._task = self._task, None
        if task is None:
            return
        while not task.done():  # asyncpg, too, may answer in the moment in which it is cancelled
            task.cancel()
            await asyncio.wait([task], timeout=CLOSE_S)
        if not task.cancelled():
            task.result()
        with contextlib.suppress(*DRIVER_ERRORS):
            if self._connection is not None and self._names:
                await self._say(self._connection)
        self._hang_up()

    def _stir(self) -> None:
        self._stirred.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while True:
            left_s = max(0.0, self._probe_at - self._door.now()) if self._listens else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):  # `wait_for` may swallow a cancellation that comes with the answer
                    await self._stirred.wait()
            self._stirred.clear()
            try:
                await self._attend()
            except (*DRIVER_ERRORS, StoreError):
                self._hang_up()
                self._names.clear()
                self._probe_at = self._door.now() + self._pause_s
                self._pause_s = min(PAUSE_S_MAX, self._pause_s * 2)

    async def _attend(self) -> None:
        if self._door.is_crowded:  # we are the first who can do without
            self._hang_up()
            self._names.clear()
            self._probe_at = self._door.now() + self._probe_s
            return
        connection = self._connection
        if connection is None or connection.is_closed():
            if not self._names and self._door.now() < self._probe_at:
                return
            connection = self._connection = await self._door.connect(math.inf)
            connection.add_termination_listener(self._lost)
            self._is_heard = False
        if self._listens and not self._is_heard:
            await connection.add_listener(self._channel, self._hear)
            await self._probe(connection)
            if self._was_heard:
                self._deliver(frozenset([ANY_QUEUE]))  # what was said while we were away
            self._is_heard = self._was_heard = True
            self._pause_s = PAUSE_S_FIRST
        while self._names:
            await self._say(connection)
        if self._listens and self._door.now() >= self._probe_at:
            await self._probe(connection)

    async def _probe(self, connection: Connection) -> None:
        """`TimeoutError` if we do not hear ourselves."""
        self._echo.clear()
        async with asyncio.timeout(self._echo_s):
            await connection.execute(SQL["notify"], self._channel, self._name)
            await self._echo.wait()
        self._probe_at = self._door.now() + self._probe_s

    async def _say(self, connection: Connection) -> None:
        names, self._names = self._names, set()
        self._said_at = self._door.now()
        await connection.execute(SQL["notify"], self._channel, self._words(names), timeout=self._echo_s)

    def _words(self, names: Iterable[str]) -> str:
        words = "\n".join([self._name, *names])
        return words if len(words.encode()) <= PAYLOAD_BYTES_MAX else f"{self._name}\n{ANY_QUEUE}"

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        speaker, *names = str(payload).split("\n")
        if speaker == self._name:
            self._echo.set()
        else:
            self._deliver(frozenset(names))

    def _lost(self, _connection: object) -> None:
        if self._listens:
            self._probe_at = -math.inf
            self._stirred.set()

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._lost)
            connection.terminate()
