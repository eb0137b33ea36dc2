"""Verdicts on their way into the store: gathered for a few milliseconds, written in groups, and never forgotten.

A handler's slot is free when the handler ends; its message stays on the board until its settlement is durable.
While the store refuses, settlements wait here and are tried again for as long as the process lives. Slots of a
`max_concurrency` are given back once: if nobody knows whether they were, their consumer states what it holds.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from msgspec.structs import replace

from conveyor.model.clock import Clock
from conveyor.model.errors import StoreClosedError
from conveyor.model.events import Emit, SettleFailed
from conveyor.model.group import GROUP_MARK
from conveyor.model.message import Lease
from conveyor.model.verdict import Settlement
from conveyor.queue.board import Board
from conveyor.queue.outcome import show_error
from conveyor.store.protocol import MessageStore
from conveyor.store.records import Settled

FLUSH_MESSAGES: Final = 200
FLUSH_AFTER_S: Final = 0.005
FLIGHTS_MAX: Final = 4
RETRY_S_FIRST: Final = 0.05
RETRY_S_MAX: Final = 5.0
NO_SLOT: Final = 0
"""The board's slot of a message whose handler never began."""


class Ended(NamedTuple):
    """One message whose call is over."""

    settlement: Settlement
    lease: Lease
    slot: int


OnSettled: TypeAlias = Callable[[Sequence[Ended]], None]
OnDoubt: TypeAlias = Callable[[Iterable[str]], None]
"""Told the queues of which nobody knows whether their slots were given back."""


class Settler:
    """Writes an owner's settlements, and tells what was lost and what died of them."""

    def __init__(
        self,
        store: MessageStore,
        owner: int,
        clock: Clock,
        board: Board,
        emit: Emit,
        on_lost: OnSettled,
        on_dead: OnSettled,
        on_doubt: OnDoubt,
    ) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock
        self._board = board
        self._emit = emit
        self._on_lost = on_lost
        self._on_dead = on_dead
        self._on_doubt = on_doubt
        self._waiting: list[Ended] = []
        self._ended_calls: dict[str, int] = {}
        self._flights: dict[asyncio.Task[None], list[Ended]] = {}
        self._giving: Counter[str] = Counter()
        """Attempts under way that give slots back, by queue."""
        self._gave = asyncio.Event()
        self._kept_back: set[str] = set()
        """Queues whose slots are being stated: nothing is given back meanwhile."""
        self._in_flight = 0
        self._timer: asyncio.TimerHandle | None = None
        self._context = contextvars.copy_context()  # not that of the handler that happens to end

    @property
    def unsettled(self) -> int:
        """Messages whose settlement is not durable yet."""
        return len(self._waiting) + self._in_flight

    def add(self, settlement: Settlement, lease: Lease, slot: int) -> None:
        """To be written soon. `slot` is the message's on the board."""
        if lease.headers is not None and GROUP_MARK in lease.headers:
            settlement = replace(settlement, is_member=True)
        self._waiting.append(Ended(settlement, lease, slot))
        self._plan()

    def give_back(self, queue: str, calls: int) -> None:
        """So many of the queue's `max_concurrency` are free again."""
        self._ended_calls[queue] = self._ended_calls.get(queue, 0) + calls
        self._plan()

    def leases_of(self, queue: str) -> Iterator[Lease]:
        """Those whose settlement may not be written yet."""
        for ended in (self._waiting, *self._flights.values()):
            yield from (each.lease for each in ended if each.lease.queue == queue)

    async def keep_back(self, queue: str) -> None:
        """Give nothing of this queue back until `let_go`. Afterwards what was given back is the store's, or is
        forgotten: the caller states what is held."""
        self._kept_back.add(queue)
        while self._giving[queue]:
            self._gave.clear()
            await self._gave.wait()
        self._ended_calls.pop(queue, None)

    def let_go(self, queue: str) -> None:
        """Give back again."""
        self._kept_back.discard(queue)
        if self._has_work:
            self._plan()

    @property
    def _has_work(self) -> bool:
        return bool(self._waiting) or not self._ended_calls.keys() <= self._kept_back

    def flush_soon(self) -> None:
        """Hand what waits to the store in this round of the loop, before whatever is submitted after it."""
        if not self._has_work or len(self._flights) >= FLIGHTS_MAX:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        ended_calls = self._take_ended_calls()
        self._in_flight += len(waiting)
        flight = asyncio.get_running_loop().create_task(self._write(waiting, ended_calls), context=self._context)
        self._flights[flight] = waiting
        flight.add_done_callback(self._landed)

    def _take_ended_calls(self) -> dict[str, int]:
        taken = {queue: calls for queue, calls in self._ended_calls.items() if queue not in self._kept_back}
        for queue in taken:
            del self._ended_calls[queue]
            self._giving[queue] += 1
        return taken

    async def drain(self) -> None:
        """Until everything is written; with a store that refuses, that is for ever."""
        while self._flights or self._has_work:
            self.flush_soon()
            await asyncio.wait(self._flights, return_when=asyncio.FIRST_COMPLETED)

    def abandon(self) -> int:
        """Give up what could not be written; how many messages. Whoever reaps the owner deals with them."""
        for flight in self._flights:
            flight.cancel()
        if self._timer is not None:
            self._timer.cancel()
        return self.unsettled

    def _plan(self) -> None:
        if len(self._waiting) >= FLUSH_MESSAGES:
            self.flush_soon()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FLUSH_AFTER_S, self._on_time, context=self._context)

    def _on_time(self) -> None:
        self._timer = None
        self.flush_soon()

    def _landed(self, flight: asyncio.Task[None]) -> None:
        del self._flights[flight]
        if self._has_work:
            self._plan()

    async def _write(self, ended: list[Ended], ended_calls: Mapping[str, int]) -> None:
        settlements = [each.settlement for each in ended]
        retry_s = RETRY_S_FIRST
        while settlements or ended_calls:
            try:
                settled = await self._store.settle(self._owner, settlements, ended=ended_calls or None)
                self._note_given(ended_calls)
                self._clear(ended, settled)
                break
            except StoreClosedError:
                self._note_given(ended_calls)
                return
            except Exception as error:  # noqa: BLE001  # whatever it is: a verdict that is dropped would lock its message for ever
                self._emit(SettleFailed(messages=len(ended), error=show_error(error), retry_s=retry_s))
            self._note_given(ended_calls)
            self._on_doubt(ended_calls)  # given back perhaps; a second time would be once too often
            ended_calls = {}
            await self._clock.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_S_MAX)
        self._in_flight -= len(ended)

    def _note_given(self, ended_calls: Mapping[str, int]) -> None:
        self._giving.subtract(ended_calls.keys())
        self._gave.set()

    def _clear(self, ended: list[Ended], settled: Settled) -> None:
        for each in ended:
            if each.slot:
                self._board.end(each.slot)
        if settled.lost:
            lost = set(settled.lost)
            self._on_lost([each for each in ended if each.settlement.seq in lost])
        if settled.dead:
            dead = set(settled.dead)
            self._on_dead([each for each in ended if each.settlement.seq in dead])
