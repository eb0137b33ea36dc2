"""Who works on an order: the queue, if it takes it; else this very process, with the same progress."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from conveyor import ConveyorError

from . import clock
from .logbook import say
from .orders import Orders, Way
from .words import Order
from .workshop import RETRIES, TROUBLE, Workshop

Send = Callable[[Order], Awaitable[None]]
"""Puts an order's message into the queue, durably."""

SEND_S_MAX: Final = 10.0
BACKOFF_S: Final = 2.0


class Direct:
    """Works on orders in this process, a few at a time."""

    def __init__(self, workshop: Workshop, orders: Orders, *, at_once: int, backoff_s: float = BACKOFF_S) -> None:
        self._workshop = workshop
        self._orders = orders
        self._slots = asyncio.Semaphore(at_once)
        self._backoff_s = backoff_s
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, order: Order) -> None:
        """Begin as soon as there is a slot."""
        task = asyncio.create_task(self._run(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Let go of everything; the next start goes on where this stopped."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, order: Order) -> None:
        async with self._slots:
            for attempt in range(1, RETRIES + 2):
                try:
                    await self._workshop.work(order, attempt=attempt)
                    return
                except TROUBLE as error:
                    say(f"⚠️ Direct processing of job {order.id}, attempt {attempt}: {type(error).__name__}: {error}")
                except Exception as error:  # whatever it is, nobody may wait for this order for ever
                    await self._orders.fail(order.id, f"It failed: {type(error).__name__}")
                    raise
                if attempt <= RETRIES:
                    await clock.pause(self._backoff_s * 2 ** (attempt - 1))


class Dispatch:
    """Sends orders on their way."""

    def __init__(self, send: Send, orders: Orders, direct: Direct, *, where: str) -> None:
        """`where` is what the queue is called in the log."""
        self._send = send
        self._orders = orders
        self._direct = direct
        self._where = where
        self.fallbacks = 0

    async def submit(self, order: Order) -> None:
        """To the queue, or directly; the order is in the table already."""
        say(f"🚀 Attempting to enqueue job {order.id} to {self._where}...")
        try:
            async with asyncio.timeout(SEND_S_MAX):
                await self._send(order)
        except (ConveyorError, OSError, TimeoutError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            say(f"⚠️ {self._where[:1].upper()}{self._where[1:]} not available: {reason}")
            say("🔄 Falling back to direct processing...")
            self.fallbacks += 1
            await self._orders.set_way(order, Way.DIRECT)
            self._direct.start(order)
        else:
            say(f"✅ Job successfully enqueued to {self._where}: {order.id}")
            await self._orders.set_way(order, Way.QUEUE)

    async def resume(self, orders: Sequence[Order]) -> None:
        """After a start: what was worked on directly, or never got to the queue."""
        for order in orders:
            await self._orders.set_way(order, None)  # else a worker that is quick would be told to stop
            await self.submit(order)
