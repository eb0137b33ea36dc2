"""Immediate dispatch: what a process sends to a queue on which it works itself is leased to it by the transaction of
the send, and starts right after COMMIT.

Where nothing could start here at once it is an ordinary send, and whoever is free takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from conveyor.model.dispatch import Dispatch
from conveyor.model.errors import StoreError
from conveyor.model.message import Draft, Sent
from conveyor.model.settings import ConsumerSettings
from conveyor.store.protocol import Store
from conveyor.store.records import Claimed, ClaimRequest


class Starter(Protocol):
    """What a line needs of the consumer at its end."""

    queue: str
    settings: ConsumerSettings
    claiming: asyncio.Lock
    """Held by a claim that is under way."""
    asked: int
    """Calls that it may bring."""

    @property
    def batch_size(self) -> int: ...

    @property
    def spare_calls(self) -> int:
        """Calls that could start at once with what is sent now, if no claim brings others."""
        ...

    def begin(self, claimed: Claimed, size: int) -> None:
        """These are leased to us, for calls of so many messages."""
        ...

    def flush_verdicts(self) -> None:
        """Write the verdicts that wait, with whatever is written next."""
        ...

    def doubt(self) -> None:
        """The store may hold more in our name than we know of."""
        ...


class Line:
    """From those who send to a queue in this process straight to its consumer here."""

    def __init__(self, store: Store, owner: int, starter: Starter) -> None:
        self._store = store
        self._owner = owner
        self._starter = starter
        self._sends: set[asyncio.Task[list[Sent]]] = set()
        self._is_held = False
        self.calls = 0
        """Spoken for by sends that are under way."""

    @property
    def queue(self) -> str:
        return self._starter.queue

    async def send(self, drafts: Sequence[Draft]) -> list[Sent]:
        """As `Store.append`, for drafts to this queue. A sender that is cancelled withdraws nothing."""
        if self._waits_for_claim:
            async with self._starter.claiming:  # soon it is known what room it leaves
                pass
        calls = self._calls_for(drafts)
        if calls <= 0:
            return await self._store.append(drafts)
        self.calls += calls  # at once: the next send may come before the task begins
        self._starter.flush_verdicts()
        task = asyncio.create_task(self._send(drafts, calls))  # submitted after the verdicts, and with them
        self._sends.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    @contextlib.asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """No send of ours is under way until the end of the block; those that come go the ordinary way."""
        self._is_held = True
        try:
            if self._sends:
                await asyncio.wait(self._sends)
            yield
        finally:
            self._is_held = False

    async def close(self) -> None:
        """Returns once what was leased by sends is known; from then on they go the ordinary way."""
        self._is_held = True
        if self._sends:
            await asyncio.wait(self._sends)

    @property
    def _waits_for_claim(self) -> bool:
        """A claim that is under way has asked for all the room that there is."""
        starter = self._starter
        is_immediate = not self._is_held and starter.settings.dispatch is Dispatch.IMMEDIATE
        return is_immediate and 0 < starter.spare_calls - self.calls <= starter.asked

    def _calls_for(self, drafts: Sequence[Draft]) -> int:
        starter = self._starter
        if self._is_held or starter.settings.dispatch is not Dispatch.IMMEDIATE:
            return 0
        ready = sum(not draft.delay_ms for draft in drafts)
        return min(-(-ready // starter.batch_size), starter.spare_calls - starter.asked - self.calls)

    async def _send(self, drafts: Sequence[Draft], calls: int) -> list[Sent]:
        starter, size = self._starter, self._starter.batch_size
        request = ClaimRequest(queue=starter.queue, owner=self._owner, limit=calls * size, calls=calls, batch_size=size)
        try:
            sent, claimed = await self._store.append_and_claim(drafts, request)
        except StoreError:
            starter.doubt()
            raise
        finally:
            self.calls -= calls
        starter.begin(claimed, size)
        return sent

    def _forget(self, task: asyncio.Task[list[Sent]]) -> None:
        self._sends.discard(task)
        if not task.cancelled():
            task.exception()  # its sender may be gone


class Here:
    """The queues on which this process works, for those in it that send."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def enter(self, line: Line) -> None:
        self._lines[line.queue] = line

    def leave(self, line: Line) -> None:
        if self._lines.get(line.queue) is line:
            del self._lines[line.queue]

    def line_to(self, queue: str) -> Line | None:
        """None: nobody here works on it."""
        return self._lines.get(queue)
