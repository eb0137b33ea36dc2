"""Live events: what this process is told goes to everybody who listens and may know of it, and into a ring from which
those who come back are told what they have missed.

Memory is bounded whoever listens: the ring by `RING_MAX`, a listener by `BUFFER_MAX`; one that does not keep up is cut
off, told so, and may come back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, ClassVar, Final

import msgspec

from conveyor.model.clock import Clock
from conveyor.model.events import Event
from conveyor.model.refusals import TooManyRequestsError
from conveyor.server.rest.shapes import moment
from conveyor.server.rights import Caller
from conveyor.store.notices import Notice

RING_MAX: Final = 1_000
BUFFER_MAX: Final = 2_000
"""Of one listener; more than the ring, which is replayed at once."""
TAKEN_MAX: Final = 50
"""Written in one go, before others get their turn."""
LISTENERS_MAX: Final = 256
LISTENERS_OF_TOKEN_MAX: Final = 32


class Ending(StrEnum):
    """Why a stream is closed."""

    SLOW = "slow"
    """It did not keep up."""
    REVOKED = "revoked"
    """Its token is not valid any more, or could not be verified."""
    SHUTDOWN = "shutdown"


class StreamGap(Event, frozen=True, kw_only=True):
    """What the listener missed cannot be told any more: read anew what matters."""

    name: ClassVar[str] = "conveyor.stream.gap"
    after: str


class StreamClosed(Event, frozen=True, kw_only=True):
    """The last event of a stream."""

    name: ClassVar[str] = "conveyor.stream.closed"
    reason: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way out. `id` is empty for what is said to one listener alone."""

    id: str = ""
    number: int = 0
    name: str = ""
    """Empty: a heartbeat."""
    queue: str | None = None
    data: bytes = b"{}"
    ending: Ending | None = None
    """It is the last one of a stream, and this is why."""


HEARTBEAT: Final = Entry()
Sees = Callable[[Entry], bool]


class Listener:
    """One stream's side of the hub: entries that wait to be written, and perhaps an end."""

    def __init__(self, caller: Caller, sees: Sees) -> None:
        self.caller = caller
        self.spoken_at = 0.0
        """When something was last put here, by the monotonic clock."""
        self.ending: Ending | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sees = sees
        self._waiting: deque[Entry] = deque()
        self._woken = asyncio.Event()

    def offer(self, entry: Entry, now: float) -> None:
        """Never waits."""
        if self.ending is not None or ((entry.id or entry.queue) and not self._sees(entry)):
            return
        if len(self._waiting) >= BUFFER_MAX:
            self.end(Ending.SLOW)
            return
        self._waiting.append(entry)
        self.spoken_at = now
        self._woken.set()

    def end(self, ending: Ending) -> None:
        """After what waits, nothing more comes but the reason."""
        if self.ending is None:
            self.ending = ending
            self._woken.set()

    async def take(self) -> list[Entry]:
        """The next that wait, `TAKEN_MAX` at most, once there is something; empty at the end."""
        while not self._waiting and self.ending is None:
            self._woken.clear()
            await self._woken.wait()
        return [self._waiting.popleft() for _ in range(min(TAKEN_MAX, len(self._waiting)))]


class Hub:
    """`publish` is an `Emit`: it may be called on any thread, and never raises."""

    def __init__(self, clock: Callable[[], Clock], *, epoch: str) -> None:
        self._clock = clock
        self._epoch = epoch
        self._ring: deque[Entry] = deque(maxlen=RING_MAX)
        self._number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self.listeners: set[Listener] = set()

    def open(self) -> None:
        """In the event loop in which it is listened to."""
        self._loop = asyncio.get_running_loop()
        self._is_closed = False

    def close(self) -> None:
        """Everybody is told, and nobody comes in any more."""
        self._is_closed = True
        for listener in self.listeners:
            listener.end(Ending.SHUTDOWN)

    def publish(self, event: Event) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(self._add, event)
        except RuntimeError:  # closed since we looked
            return

    def _add(self, event: Event) -> None:
        self._enter(event.name, _queue_of(event), self._facts(event))

    def repeat(self, notice: Notice) -> None:
        """What another process tells; in the hub's loop."""
        facts = msgspec.json.decode(notice.body, type=dict[str, Any])
        queue = facts.get("queue")
        data = msgspec.json.encode({"at": moment(notice.at)} | facts)
        self._enter(notice.name, queue if isinstance(queue, str) else None, data)

    def _enter(self, name: str, queue: str | None, data: bytes) -> None:
        self._number += 1
        entry = Entry(
            id=f"{self._epoch}-{self._number}",
            number=self._number,
            name=name,
            queue=queue,
            data=data,
        )
        self._ring.append(entry)
        now = self._clock().monotonic()
        for listener in self.listeners:
            listener.offer(entry, now)

    def alone(self, event: Event) -> Entry:
        """For one listener: it is not kept, and has no id."""
        return Entry(name=event.name, queue=_queue_of(event), data=self._facts(event))

    def last(self, ending: Ending) -> Entry:
        """What a stream ends with."""
        return msgspec.structs.replace(self.alone(StreamClosed(reason=ending.value)), ending=ending)

    def _facts(self, event: Event) -> bytes:
        facts: dict[str, Any] = {"at": moment(self._clock().now_ms())} | msgspec.structs.asdict(event)
        return msgspec.json.encode(facts, enc_hook=str)

    def check_room(self, caller: Caller) -> None:
        """`TooManyRequestsError` if too many listen, or too many with this token."""
        same = sum(each.caller.token_id == caller.token_id for each in self.listeners)
        if self._is_closed or len(self.listeners) >= LISTENERS_MAX or same >= LISTENERS_OF_TOKEN_MAX:
            raise TooManyRequestsError(5.0)

    def join(self, caller: Caller, sees: Sees, after: str | None, *, first: Iterable[Event] = ()) -> Listener:
        """Listen from now on, being told what is `first`, or from after the event of this id.
        `TooManyRequestsError`."""
        self.check_room(caller)
        listener = Listener(caller, sees)
        now = self._clock().monotonic()
        listener.spoken_at = now
        if after:
            number = self._read_id(after)
            oldest = self._ring[0].number if self._ring else self._number + 1
            if number is None or number < oldest - 1:
                listener.offer(self.alone(StreamGap(after=after[:64])), now)
            for entry in self._ring:
                if number is None or entry.number > number:
                    listener.offer(entry, now)
        else:
            for event in first:
                listener.offer(self.alone(event), now)
        self.listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        self.listeners.discard(listener)
        if not listener.gone.done():
            listener.gone.set_result(None)

    def _read_id(self, text: str) -> int | None:
        """The number in an id of this process; None for anything else."""
        epoch, _, number = text.rpartition("-")
        if epoch != self._epoch or not number.isascii() or not number.isdecimal() or len(number) > 18:
            return None
        return int(number) if int(number) <= self._number else None


def _queue_of(event: Event) -> str | None:
    """The queue that it is about, if there is one."""
    queue = getattr(event, "queue", None)
    return queue if isinstance(queue, str) else None
