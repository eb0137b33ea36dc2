"""A few connections, taken in turn; transactions are tried again where nothing was written or a receipt says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from conveyor.model.errors import OutcomeUnknownError, StoreError
from conveyor.store.postgres.door import Door
from conveyor.store.postgres.faults import (
    DRIVER_ERRORS,
    is_lost,
    is_read_only,
    is_there_already,
    is_worth_another_try,
    translate,
)
from conveyor.store.postgres.link import CommitLostError, Durability, Link, Shared
from conveyor.store.postgres.transaction import CatalogWantedError, Transaction

T = TypeVar("T")

TRIES_MAX: Final = 10
"""Of a transaction that others are in the way of. One whose connection broke is tried until its deadline."""
IDLE_S: Final = 60.0
"""A connection that nobody has used for so long is given back."""
RECEIPT_S: Final = 10.0
"""A lost COMMIT's receipt is looked for at least this long."""


def _breaks(error: BaseException) -> bool:
    return isinstance(error, CommitLostError | OutcomeUnknownError) or is_lost(error) or is_read_only(error)


class Pool:
    """`size` connections at most, opened when wanted. `tell` gets the queues to wake, after COMMIT."""

    def __init__(self, door: Door, shared: Shared, *, size: int, tell: Callable[[frozenset[str]], None]) -> None:
        self._door = door
        self._shared = shared
        self._tell = tell
        self._idle: list[Link] = []
        self._free = asyncio.Semaphore(size)
        self._tidying: asyncio.TimerHandle | None = None

    async def run(
        self,
        work: Callable[[Transaction], Awaitable[T]],
        durability: Durability,
        *,
        exclusive: bool = False,
        deadline: float | None = None,
    ) -> T:
        """The work's answer, after COMMIT. Domain errors pass; the database's become ours."""
        try:
            return await self.use(lambda link: link.transact(work, durability, exclusive=exclusive), deadline)
        except CatalogWantedError:
            return await self.use(lambda link: link.transact(work, durability, exclusive=True), deadline)

    async def use(
        self, work: Callable[[Link], Awaitable[tuple[T, frozenset[str]]]], deadline: float | None = None
    ) -> T:
        """The answer of work that is one transaction on a link, and names the queues to wake. A server that is away is
        waited for until the deadline."""
        deadline = self._door.deadline() if deadline is None else deadline
        tries, lost = 0, None
        while True:
            try:
                return await self._once(work, deadline)
            except CommitLostError as error:
                lost, problem = error, error.__cause__
                if await self._was_committed(lost, deadline):
                    return self._found(lost)  # type: ignore[no-any-return]  # what the work returned
            except DRIVER_ERRORS as error:
                if lost is not None and is_there_already(error):  # it had not begun yet when its receipt was looked for
                    return self._found(lost)  # type: ignore[no-any-return]  # what the work returned
                problem = error
            assert problem is not None
            tries += 1
            if not self._is_worth_another_try(problem, tries, deadline):
                raise translate(problem, self._door.address.where) from problem
            await self._door.rest(tries)

    def _found(self, lost: CommitLostError) -> Any:
        """What the work returned: it was committed."""
        self._tell(lost.woken)
        return lost.result

    def _is_worth_another_try(self, error: BaseException, tries: int, deadline: float) -> bool:
        if is_lost(error):
            return not self._door.is_past(deadline)
        if is_read_only(error):  # perhaps it has become a standby: a new connection would not go there
            return tries == 1
        return is_worth_another_try(error) and tries < TRIES_MAX

    async def _once(self, work: Callable[[Link], Awaitable[tuple[T, frozenset[str]]]], deadline: float) -> T:
        async with self._free:
            link = self._idle.pop() if self._idle else Link(await self._door.connect(deadline), self._shared)
            try:
                result, woken = await work(link)
            except BaseException as error:
                await self._put_back(link, error)
                raise
            await self._keep(link)
        if woken:
            self._tell(woken)
        return result

    async def _put_back(self, link: Link, error: BaseException) -> None:
        """One that broke is not used again, and those that waited beside it have most likely broken too."""
        if isinstance(error, TimeoutError):
            await link.close()  # tells the server to stop what it is at
        elif isinstance(error, asyncio.CancelledError):
            link.drop()
        elif _breaks(error) or not link.is_open:
            broken, self._idle = [link, *self._idle], []
            for each in broken:
                each.drop()
        else:
            await self._keep(link)

    async def _keep(self, link: Link) -> None:
        """For the next; unless others wait for the server's connections."""
        if self._door.is_look_due():
            try:
                await self._look_for_crowd(link)
            except BaseException:  # cancelled: nobody would close it
                link.drop()
                raise
        if self._door.is_crowded or not link.is_open:
            await link.close()
            return
        link.used_at = self._door.now()
        self._idle.append(link)
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(IDLE_S, self._tidy)

    async def _look_for_crowd(self, link: Link) -> None:
        with contextlib.suppress(*DRIVER_ERRORS):
            if await link.sees_crowd():
                self._door.crowd("nearly all of its connections are taken")

    def _tidy(self) -> None:
        """Give back what was not used for long."""
        now = self._door.now()
        old = [link for link in self._idle if now - link.used_at >= IDLE_S or self._door.is_crowded]
        self._idle = [link for link in self._idle if link not in old]
        for link in old:
            link.drop()
        self._tidying = asyncio.get_running_loop().call_later(IDLE_S, self._tidy) if self._idle else None

    async def _was_committed(self, lost: CommitLostError, deadline: float) -> bool:
        until, tries = max(deadline, self._door.now() + RECEIPT_S), 0
        while True:
            try:
                link = Link(await self._door.connect(until), self._shared)
                try:
                    return await link.has_receipt(lost.writer, lost.number)
                finally:
                    await link.close()
            except (*DRIVER_ERRORS, StoreError, CommitLostError) as error:
                if self._door.is_past(until) or not (is_lost(error) or isinstance(error, CommitLostError)):
                    raise OutcomeUnknownError(f"{lost.__cause__}, then {error}") from error
                tries += 1
                await self._door.rest(tries)

    async def close(self) -> None:
        """Closes what is idle; who still works closes nothing, since the store waits for it first."""
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidying = None
        idle, self._idle = self._idle, []
        for link in idle:
            await link.close()
