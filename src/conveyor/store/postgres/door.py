"""The way in: connections to the one server that takes writes. While it is away, one call knocks for all.

    open       connect; if the server is away, the outage begins (one event)
    outage     one call knocks, after ever longer pauses; the others wait for it, each until its own deadline
    back       the outage ends (one event), and all come in
"""

from __future__ import annotations

import asyncio
import math
from random import Random
from typing import Final

from conveyor.model.clock import SystemClock
from conveyor.model.events import Emit, StoreBack, StoreCrowded, StoreLost
from conveyor.store.postgres.faults import DRIVER_ERRORS, is_crowded, is_lost, translate
from conveyor.store.postgres.opening import Address, dial
from conveyor.store.postgres.transaction import Connection

PAUSE_S_FIRST: Final = 0.02
PAUSE_S_MAX: Final = 0.25
CROWDED_S: Final = 60.0
"""So long after a server had no connection left, none is kept that is not in use."""
LOOK_S: Final = 10.0
"""Who has connections looks this often whether there are any for others."""
CLOSING_S: Final = 1.0
"""What a call may still wait for a server that is away, once the store closes."""


class Door:
    """Of one store; shared by all that want a connection. `emit` hears when the server goes and comes back."""

    def __init__(self, address: Address, *, emit: Emit, chance: Random) -> None:
        self.address = address
        self._emit = emit
        self._chance = chance
        self._patience = SystemClock()  # a real server is waited for in real time
        self._places = list(address.places)
        self._knocking = asyncio.Lock()
        self._lost_at: float | None = None
        self._is_told = False
        self._pause_s = PAUSE_S_FIRST
        self._crowded_until = -math.inf
        self._look_at = -math.inf
        self._problem: BaseException | None = None
        self._waits: set[asyncio.Timeout] = set()
        self._closes_at = math.inf

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler is in between: statements are not prepared by name, and LISTEN is not heard."""
        return bool(self.address.pooler)

    @property
    def is_crowded(self) -> bool:
        """Whether others wait for the connections that we hold."""
        return self.now() < self._crowded_until

    def is_look_due(self) -> bool:
        """Whether it is time to look for a crowd; once for all that ask. A pooler sees to it itself."""
        if self.is_pooled or self.now() < self._look_at:
            return False
        self._look_at = self.now() + LOOK_S
        return True

    def crowd(self, error: str) -> None:
        """Others wait, or soon will."""
        if not self.is_crowded:
            self._emit(StoreCrowded(store=self.address.where, error=error))
        self._crowded_until = self.now() + CROWDED_S

    def now(self) -> float:
        """By the clock of the deadlines."""
        return self._patience.monotonic()

    def deadline(self) -> float:
        """When a call that begins now has waited long enough."""
        return self.now() + self.address.patience_s

    def is_past(self, deadline: float) -> bool:
        return self.now() >= min(deadline, self._closes_at)

    async def rest(self, tries: int) -> None:
        """Before another try: the longer, the more there were."""
        await self._patience.sleep(self._chance.uniform(0, min(PAUSE_S_MAX, PAUSE_S_FIRST * 2**tries)))

    async def connect(self, deadline: float) -> Connection:
        """A `StoreError`: at once if it is no matter of time, else when the server is still away at the deadline."""
        while True:
            if self._lost_at is None:
                try:
                    return await self._dial()
                except DRIVER_ERRORS as error:
                    self._lose(error)
            found = await self._knock(deadline)
            if found is not None:
                return found

    def close(self) -> None:
        """Nobody waits for long any more."""
        self._closes_at = self.now() + CLOSING_S
        at = asyncio.get_running_loop().time() + CLOSING_S
        for wait in self._waits:
            when = wait.when()
            if not wait.expired() and (when is None or when > at):
                wait.reschedule(at)

    async def _knock(self, deadline: float) -> Connection | None:
        """Wait for the outage to end; None if somebody else has seen its end."""
        left = min(deadline, self._closes_at) - self.now()
        try:
            async with asyncio.timeout(None if math.isinf(left) else max(0, left)) as wait:
                self._waits.add(wait)
                try:
                    return await self._try_in_turn()
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            assert self._problem is not None
            raise translate(self._problem, self.address.where) from self._problem

    async def _try_in_turn(self) -> Connection | None:
        async with self._knocking:
            while self._lost_at is not None:
                await self._patience.sleep(self._pause_s * self._chance.uniform(0.5, 1))
                self._pause_s = min(PAUSE_S_MAX, self._pause_s * 2)
                try:
                    return await self._dial()
                except DRIVER_ERRORS as error:
                    self._lose(error)
        return None

    async def _dial(self) -> Connection:
        """The first of the servers that takes writes."""
        problem: BaseException | None = None
        for place in list(self._places):
            try:
                connection = await dial(place, self.address)
            except DRIVER_ERRORS as error:
                if not is_lost(error) and not is_crowded(error):
                    raise
                problem = error if problem is None or not is_crowded(problem) else problem
            else:
                self._places.remove(place)  # the next looks here first
                self._places.insert(0, place)
                self._find()
                return connection
        assert problem is not None
        raise problem

    def _lose(self, error: BaseException) -> None:
        """The server is away from now on, if it was not before. `StoreError` if waiting would not help."""
        if not is_lost(error) and not is_crowded(error):
            raise translate(error, self.address.where) from error
        self._problem = error
        now = self.now()
        if is_crowded(error):
            self.crowd(str(error))
        elif not self._is_told:
            self._is_told = True
            self._emit(StoreLost(store=self.address.where, error=str(error) or type(error).__name__))
        self._lost_at = now if self._lost_at is None else self._lost_at

    def _find(self) -> None:
        lost_at, self._lost_at, self._pause_s = self._lost_at, None, PAUSE_S_FIRST
        if lost_at is not None and self._is_told:
            self._is_told = False
            self._emit(StoreBack(store=self.address.where, away_s=round(self.now() - lost_at, 3)))


