"""A few connections, taken in turn; transactions are tried again where nothing was written or a receipt says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg

from conveyor.model.clock import SystemClock
from conveyor.model.errors import ConveyorError, OutcomeUnknownError, StoreError
from conveyor.store.postgres.faults import is_lost, is_worth_another_try, translate
from conveyor.store.postgres.link import CommitLostError, Durability, Link, Shared
from conveyor.store.postgres.transaction import CatalogWantedError, Connection, Transaction

T = TypeVar("T")

TRIES_MAX: Final = 5
RECEIPT_S: Final = 10.0
"""How long a lost COMMIT's receipt is looked for."""
_PAUSE_S: Final = 0.1


class Pool:
    """`size` connections at most, opened when wanted. `tell` gets the queues to wake, after COMMIT."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        shared: Shared,
        *,
        size: int,
        where: str,
        tell: Callable[[frozenset[str]], None],
    ) -> None:
        self._connect = connect
        self._shared = shared
        self._where = where
        self._tell = tell
        self._idle: list[Link] = []
        self._free = asyncio.Semaphore(size)
        self._patience = SystemClock()  # a real server is waited for in real time

    async def run(
        self, work: Callable[[Transaction], Awaitable[T]], durability: Durability, *, exclusive: bool = False
    ) -> T:
        """The work's answer, after COMMIT. Domain errors pass; the database's become ours."""
        try:
            return await self.use(lambda link: link.transact(work, durability, exclusive=exclusive))
        except CatalogWantedError:
            return await self.use(lambda link: link.transact(work, durability, exclusive=True))

    async def use(self, work: Callable[[Link], Awaitable[tuple[T, frozenset[str]]]]) -> T:
        """The answer of work that is one transaction on a link, and the queues it wakes."""
        last: BaseException | None = None
        for _ in range(TRIES_MAX):
            try:
                return await self._once(work)
            except CommitLostError as lost:
                if await self._was_committed(lost):
                    self._tell(lost.woken)
                    return lost.result  # type: ignore[no-any-return]  # it is what the work returned
                last = lost.__cause__
            except (ConveyorError, CatalogWantedError):
                raise
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
                last = error
                if not is_lost(error) and not is_worth_another_try(error):
                    break
        assert last is not None
        raise translate(last, self._where) from last

    async def _once(self, work: Callable[[Link], Awaitable[tuple[T, frozenset[str]]]]) -> T:
        async with self._free:
            link = self._idle.pop() if self._idle else Link(await self._connect(), self._shared)
            try:
                result, woken = await work(link)
            except BaseException as error:
                await self._put_back(link, error)
                raise
            self._idle.append(link)
        if woken:
            self._tell(woken)
        return result

    async def _put_back(self, link: Link, error: BaseException) -> None:
        """One that broke is not used again, and those that waited beside it have most likely broken too."""
        if link.is_open and not is_lost(error) and not isinstance(error, CommitLostError | asyncio.CancelledError):
            self._idle.append(link)
            return
        broken, self._idle = [link, *self._idle], []
        for each in broken:
            await each.close()

    async def _was_committed(self, lost: CommitLostError) -> bool:
        deadline = self._patience.monotonic() + RECEIPT_S
        while True:
            try:
                link = Link(await self._connect(), self._shared)
                try:
                    return await link.has_receipt(lost.writer, lost.number)
                finally:
                    await link.close()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, StoreError) as error:
                if self._patience.monotonic() > deadline:
                    raise OutcomeUnknownError(f"{lost.__cause__}, then {error}") from error
                await self._patience.sleep(_PAUSE_S)

    async def close(self) -> None:
        """Closes what is idle; who still works closes nothing, since the store waits for it first."""
        idle, self._idle = self._idle, []
        for link in idle:
            await link.close()
