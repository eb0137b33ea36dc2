"""One generation, live, as server-sent events: `generation` with all of it whenever something changed, `log` for what
its job says, and `end` with all of it, after which the stream is over.

An event's id says how much was seen: `SEQ.NUMBER`, of the record and of the job's words. Whoever comes back with it as
`Last-Event-ID` is told every word that followed, and how things stand; after the end there is nothing more (204).
Nothing is kept for anybody who reads slowly: words are fetched when they can be written.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, TypeAlias

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from conveyor import JobEvent, JobLog, JobNotFoundError, JobProgress

from ..room import Room
from .problems import TooManyError
from .views import GenerationView, Views

Word: TypeAlias = JobLog | JobProgress
Follow = Callable[[str, int], AsyncGenerator[JobEvent, None]]
"""What the job with this id has said after a number, and says from now on, to its end."""

LOOK_S: Final = 0.5
HEARTBEAT_S: Final = 15.0
WRITE_S_MAX: Final = 30.0
"""Who takes nothing for so long is let go, and may come again."""
LAST_WORDS_S_MAX: Final = 3.0
"""The record may say that it is over before the job does."""
STREAMS_MAX: Final = 500
STREAMS_OF_ONE_MAX: Final = 16
_ID: Final = re.compile(r"(\d{1,15})\.(\d{1,15})(-end)?")


class Seen(msgspec.Struct, frozen=True):
    """How much of a generation somebody has seen."""

    seq: int = 0
    number: int = 0
    is_all: bool = False

    def __str__(self) -> str:
        return f"{self.seq}.{self.number}{'-end' if self.is_all else ''}"


def read_seen(text: str | None) -> Seen:
    """What an event's id says; nothing was seen by whoever has none, or one that we never gave."""
    found = _ID.fullmatch(text) if text is not None else None
    return Seen() if found is None else Seen(int(found[1]), int(found[2]), found[3] is not None)


class Streams:
    """Those of one process."""

    def __init__(self, room: Callable[[], Room], views: Views, follow: Follow) -> None:
        self._room = room
        self._views = views
        self._follow = follow
        self._watched: dict[str, int] = {}
        self._closing = asyncio.Event()

    def __len__(self) -> int:
        return sum(self._watched.values())

    def check_room(self, id: str) -> None:
        """`TooManyError` if too many watch, or too many this one."""
        if len(self) >= STREAMS_MAX or self._watched.get(id, 0) >= STREAMS_OF_ONE_MAX:
            raise TooManyError("Too many are watching.", wait_s=5)

    def open(self) -> None:
        """Browsers come from now on."""
        self._closing.clear()

    def close(self) -> None:
        """Let everybody go; they come back to the next server."""
        self._closing.set()

    async def watch(self, id: str, seen: Seen) -> AsyncGenerator[bytes, None]:
        """From what was seen on."""
        self._watched[id] = self._watched.get(id, 0) + 1
        words = Words(self._follow, seen.number)
        shown: tuple[int, int | None] | None = None
        loop = asyncio.get_running_loop()
        spoken_at = loop.time()
        try:
            yield b"retry: 1000\n\n"
            while not self._closing.is_set():
                found = await self._room().ledger.get(id)
                if found is None:
                    return
                view = await self._views.glance(found)
                words.begin(view.job_id)
                if view.state.is_final:
                    async for last in words.last():
                        yield _word(last, view.seq)
                    yield _event("end", Seen(view.seq, words.number, is_all=True), view)
                    return
                if shown != (view.seq, view.queue_position):
                    shown, spoken_at = (view.seq, view.queue_position), loop.time()
                    yield _event("generation", Seen(view.seq, words.number), view)
                word = await words.take(LOOK_S, self._closing)
                if word is not None:
                    spoken_at = loop.time()
                    yield _word(word, view.seq)
                elif loop.time() - spoken_at >= HEARTBEAT_S:
                    spoken_at = loop.time()
                    yield b": heartbeat\n\n"
        finally:
            await words.close()
            self._watched[id] -= 1
            if not self._watched[id]:
                del self._watched[id]


class Words:
    """What a job says, one word at a time: the next is fetched when somebody takes it."""

    def __init__(self, follow: Follow, number: int) -> None:
        self.number = number
        self._follow = follow
        self._job_id = ""
        self._told: AsyncGenerator[JobEvent, None] | None = None
        self._next: asyncio.Future[JobEvent] | None = None

    def begin(self, job_id: str) -> None:
        """Once it is known which job it is."""
        if job_id and not self._job_id:
            self._job_id = job_id
            self._told = self._follow(job_id, self.number)

    async def take(self, seconds: float, closing: asyncio.Event | None = None) -> Word | None:
        """The next, if it comes within so many seconds, and before `closing`."""
        waits: set[asyncio.Future[Any]] = set()
        if self._told is not None:
            self._next = self._next or asyncio.ensure_future(anext(self._told))
            waits.add(self._next)
        end = asyncio.ensure_future((closing or asyncio.Event()).wait())
        try:
            await asyncio.wait({*waits, end}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            end.cancel()
        if self._next is None or not self._next.done():
            return None
        done, self._next = self._next, None
        try:
            event = done.result()
        except (StopAsyncIteration, JobNotFoundError):  # it is over, or not kept any more
            self._told = None
            return None
        self.number = max(self.number, event.number)
        return event if isinstance(event, (JobLog, JobProgress)) else None  # that it has ended, the record says

    async def last(self) -> AsyncGenerator[Word, None]:
        """Those that are left, to the job's end."""
        while self._told is not None and (word := await self.take(LAST_WORDS_S_MAX)) is not None:
            yield word

    async def close(self) -> None:
        """Nobody takes any more."""
        if self._next is not None:
            self._next.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._next
        if self._told is not None:
            await self._told.aclose()


class EventStream(StreamingResponse):
    """The answer; it ends when its reader takes nothing for too long."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        """With a bound on every write."""

        async def send_soon(message: Message) -> None:
            async with asyncio.timeout(WRITE_S_MAX):
                await send(message)

        try:
            with contextlib.suppress(TimeoutError):
                await super().stream_response(send_soon)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()


def _word(word: Word, seq: int) -> bytes:
    if isinstance(word, JobLog):
        facts = {"at": word.at, "attempt": word.attempt, "level": word.level, "text": word.text}
        return _event("log", Seen(seq, word.number), facts)
    facts = {"attempt": word.attempt, "progress": word.fraction, "note": word.note}
    return _event("progress", Seen(seq, word.number), facts)


def _event(name: str, seen: Seen, data: GenerationView | dict[str, Any]) -> bytes:
    return f"id: {seen}\nevent: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"
