"""`/events` (SSE) and what it shares with the WebSocket: who may listen to what, heartbeats, and the end of a stream
whose token is revoked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from conveyor.model.clock import Clock
from conveyor.model.errors import StoreError
from conveyor.model.refusals import ForbiddenError
from conveyor.queue.notices import origin_of
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.hub import HEARTBEAT, Ending, Entry, Hub, Listener, Sees
from conveyor.server.rest.measuring import Measuring
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.shapes import Asked, Moment, Told, moment
from conveyor.server.rest.tickets import LIFE_S, Tickets
from conveyor.server.rest.watching import JobStreams
from conveyor.server.rights import Caller, Right
from conveyor.server.tokens import ENVIRONMENT_ID, Tokens
from conveyor.store.notices import NOTICES_MAX

if TYPE_CHECKING:
    from conveyor.app import Conveyor

HEARTBEAT_S: Final = 15.0
LOOK_S: Final = 1.0
VERIFY_S: Final = 2.0
VERIFY_PATIENCE_S: Final = 2.0
"""A token that cannot be verified for so long is taken for revoked: two looks and this are under 5 s."""
DRAIN_S: Final = 2.0
_FOR_ADMINS: Final = ("conveyor.access.", "conveyor.connection.", "conveyor.request.")
"""Who came from where, and what broke inside."""


class StreamAsked(Asked, frozen=True, kw_only=True):
    """What a stream is to tell."""

    queue: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """Only events of queues of this name, or pattern with `*` and `?`."""
    event: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """Only events whose name begins so, as in `conveyor.queue`."""
    after: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """The id of the last event that came; `Last-Event-ID` goes before it."""


class TicketShown(Told, frozen=True, kw_only=True):
    """Good for one stream."""

    ticket: str
    expires_at: Moment


class Streams:
    """The streams of one process."""

    def __init__(self, app: Conveyor, tokens: Tokens, *, epoch: str) -> None:
        self.hub = Hub(self._clock, epoch=epoch)
        self.tickets = Tickets(self._clock)
        self.of_jobs = JobStreams(app, tokens, self.tickets)
        self._app = app
        self._tokens = tokens
        self._measuring = Measuring(app.store, self.hub.publish)
        self._tasks: list[asyncio.Task[None]] = []
        self._heard: int | None = None
        """The number of the last notice that was told on; None while nobody listens."""

    def _clock(self) -> Clock:
        return self._app.store.clock  # not kept: a store finds its clock when it is opened

    def open(self) -> None:
        """In the server's event loop, the store being open."""
        self.hub.open()
        self.of_jobs.open()

    async def close(self) -> None:
        """Tell every listener, and wait a little until they are gone."""
        self.hub.close()
        await self.of_jobs.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self.hub.listeners:
                    await asyncio.wait([each.gone for each in self.hub.listeners])
        await self._rest()

    async def follow(self, caller: Caller, asked: StreamAsked, after: str | None) -> AsyncGenerator[list[Entry], None]:
        """Entries as they come, the last of which says why it is the last; of what other processes tell, all that they
        tell from now on. `TooManyRequestsError`."""
        heard = self._heard
        if heard is None:
            with contextlib.suppress(StoreError):
                heard = await self._app.store.notices.last()
        return self._follow(caller, asked, after, heard)

    async def _follow(
        self, caller: Caller, asked: StreamAsked, after: str | None, heard: int | None
    ) -> AsyncGenerator[list[Entry], None]:
        listener = self.hub.join(caller, _sees(caller, asked), after, first=self._measuring.known)
        if self._heard is None:
            self._heard = heard
        try:
            self._work()
            while entries := await listener.take():
                yield entries
                await self._clock().sleep(0)  # a write that need not wait lets nobody else have a turn
            yield [self.hub.last(listener.ending or Ending.SHUTDOWN)]
        finally:
            self.hub.leave(listener)
            if not self.hub.listeners:
                await self._rest()

    # What is done while anybody listens

    def _work(self) -> None:
        if not self._tasks:
            loops = ((LOOK_S, self._look), (LOOK_S, self._beat), (VERIFY_S, self._verify))
            self._tasks = [asyncio.create_task(self._every(seconds, act)) for seconds, act in loops]

    async def _rest(self) -> None:
        tasks, self._tasks, self._heard = self._tasks, [], None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await act()
            await self._clock().sleep(seconds)

    async def _look(self) -> None:
        with contextlib.suppress(StoreError):  # it says so itself when it is away
            await self._measuring.look()
            await self._hear()

    async def _hear(self) -> None:
        """What other processes have told since the last look; what this one does the hub knows."""
        notices = self._app.store.notices
        last = await notices.last()
        if self._heard is None or last < self._heard:
            self._heard = last
        for each in await notices.read(after=self._heard, limit=NOTICES_MAX) if last > self._heard else ():
            self._heard = each.number
            if each.origin != origin_of(self._app.store):
                self.hub.repeat(each)

    async def _beat(self) -> None:
        now = self._clock().monotonic()
        for listener in self.hub.listeners:
            if now - listener.spoken_at >= HEARTBEAT_S:
                listener.offer(HEARTBEAT, now)

    async def _verify(self) -> None:
        """Whether every token that somebody listens with is still good."""
        by_token: dict[str, list[Listener]] = {}
        for listener in self.hub.listeners:
            by_token.setdefault(listener.caller.token_id or "", []).append(listener)
        by_token.pop(ENVIRONMENT_ID, None)
        verdicts = await asyncio.gather(*(self._is_valid(token_id) for token_id in by_token))
        for is_valid, listeners in zip(verdicts, by_token.values(), strict=True):
            if not is_valid:
                for listener in listeners:
                    listener.end(Ending.REVOKED)

    async def _is_valid(self, token_id: str) -> bool:
        try:
            async with asyncio.timeout(VERIFY_PATIENCE_S):
                token = await self._tokens.get(token_id)
        except Exception:  # noqa: BLE001 whoever cannot be verified is not let on
            return False
        return token.expires_at is None or token.expires_at > self._clock().now_ms()

    # Endpoints

    async def stream_events(self, call: Call) -> Answer:
        """Live events as server-sent events: what happens in this server, and what changes in the queues."""
        return await self._answer(call, call.caller)

    async def stream_events_by_ticket(self, call: Call) -> Answer:
        """Live events for a browser's `EventSource`, which cannot send a token: with a ticket, once."""
        return await self._answer(call, self.tickets.redeem(call.path["ticket"]))

    async def _answer(self, call: Call, caller: Caller) -> Answer:
        asked = read_query(call, StreamAsked)
        if Right.READ not in caller.rights:
            raise ForbiddenError(Right.READ)
        self.hub.check_room(caller)
        stream = _write(await self.follow(caller, asked, call.header("last-event-id") or asked.after))
        return Answer(200, b": conveyor\n\n", content_type=b"text/event-stream", stream=stream)

    async def create_ticket(self, call: Call) -> Answer:
        """A ticket for one stream, to be opened within 30 s."""
        expires_at = moment(self._clock().now_ms() + int(LIFE_S * 1000))
        return Answer.json(TicketShown(ticket=self.tickets.issue(call.caller), expires_at=expires_at), 201)

    def operations(self) -> tuple[Operation, ...]:
        """All of them, but for the WebSocket."""
        return (
            Operation(
                method="GET", path="/events", right=Right.READ, handle=self.stream_events, query=StreamAsked,
                streams=True, headers=("Last-Event-ID",),
            ),
            Operation(
                method="GET", path="/events/{ticket}", right=None, handle=self.stream_events_by_ticket,
                query=StreamAsked, streams=True, headers=("Last-Event-ID",),
            ),
            Operation(
                method="POST", path="/tickets", right=Right.READ, handle=self.create_ticket, gives=TicketShown,
                status=201,
            ),
        )  # fmt: skip


def _sees(caller: Caller, asked: StreamAsked) -> Sees:
    """What this caller may know of, and wants to."""

    def sees(entry: Entry) -> bool:
        if asked.event is not None and not entry.name.startswith(asked.event):
            return False
        if asked.queue is not None and (entry.queue is None or not fnmatchcase(entry.queue, asked.queue)):
            return False
        return caller.may(Right.ADMIN if entry.name.startswith(_FOR_ADMINS) else Right.READ, entry.queue)

    return sees


async def _write(told: AsyncGenerator[list[Entry], None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(told):
        async for entries in told:
            yield b"".join(map(_as_event, entries))


def _as_event(entry: Entry) -> bytes:
    """As the SSE format has it."""
    if not entry.name:
        return b": heartbeat\n\n"
    head = f"id: {entry.id}\n" if entry.id else ""
    return f"{head}event: {entry.name}\ndata: ".encode() + entry.data + b"\n\n"
