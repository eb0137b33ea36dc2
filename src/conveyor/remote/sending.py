"""The way out of one queue's producers: what several coroutines send in the same moment travels in one push. A push
that is tried again carries the same `Idempotency-Key`: another conveyor takes it once, Cloudflare does not look at
it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from conveyor.model.errors import InvalidError, StoreClosedError
from conveyor.model.message import BATCH_BYTES_MAX, BATCH_MESSAGES_MAX
from conveyor.remote.wire import PushedMessage

FLIGHTS_MAX: Final = 4
"""Pushes under way at once; what is sent meanwhile gathers for the next one."""
MESSAGE_EXTRA_BYTES: Final = 100
"""What Cloudflare counts for each message besides its body."""

Push: TypeAlias = Callable[[Sequence[PushedMessage]], Awaitable[None]]
"""All or none of them; returns once they are safely there."""


class _Parcel:
    """What one caller sends: all of it in one push."""

    __slots__ = ("done", "messages", "size")

    def __init__(self, messages: Sequence[PushedMessage], size: int) -> None:
        self.messages = messages
        self.size = size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, error: BaseException | None = None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
            self.done.exception()  # whoever sent it may have been cancelled


class Outbox:
    """Gathers what is sent to a queue."""

    def __init__(self, push: Push) -> None:
        self._push = push
        self._waiting: deque[_Parcel] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._is_planned = False

    async def send(self, messages: Sequence[PushedMessage], body_bytes: int) -> None:
        """Until they are safely there, all or none. To be cancelled does not take them back."""
        parcel = _Parcel(messages, body_bytes + MESSAGE_EXTRA_BYTES * len(messages))
        self._waiting.append(parcel)
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._depart)
        await asyncio.shield(parcel.done)

    async def close(self, patience_s: float) -> None:
        """Until what is under way has arrived, but no longer than this."""
        if self._flights:
            await asyncio.wait(self._flights, timeout=patience_s)
        for parcel in self._waiting:
            parcel.end(StoreClosedError())
        self._waiting.clear()
        for flight in list(self._flights):
            flight.cancel()
        if self._flights:
            await asyncio.wait(self._flights)

    def _depart(self) -> None:
        self._is_planned = False
        while self._waiting and len(self._flights) < FLIGHTS_MAX:
            flight = asyncio.get_running_loop().create_task(self._fly(self._load()))
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._depart()

    def _load(self) -> list[_Parcel]:
        """As many parcels as fit into one push, at least one."""
        load = [self._waiting.popleft()]
        count, size = len(load[0].messages), load[0].size
        while self._waiting:
            following = self._waiting[0]
            count, size = count + len(following.messages), size + following.size
            if count > BATCH_MESSAGES_MAX or size > BATCH_BYTES_MAX:
                break
            load.append(self._waiting.popleft())
        return load

    async def _fly(self, load: list[_Parcel]) -> None:
        try:
            await self._push([message for parcel in load for message in parcel.messages])
        except InvalidError as error:
            if len(load) == 1:
                load[0].end(error)
                return
            for parcel in load:  # one of them is refused: the others shall not suffer for it
                await self._fly([parcel])
        except BaseException as error:  # noqa: BLE001  # whatever it is, somebody waits for it
            problem = StoreClosedError() if isinstance(error, asyncio.CancelledError) else error
            for parcel in load:
                parcel.end(problem)
        else:
            for parcel in load:
                parcel.end()
