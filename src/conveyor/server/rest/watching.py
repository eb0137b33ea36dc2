"""What one job says, as it says it: its log, its output, and `/jobs/{job}/stream` (SSE) and `/jobs/{job}/ws`
(WebSocket), which end with the job. Besides tokens that may read, those of end users come in here, each for its job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from conveyor.jobs.following import JobEnd, JobEvent, JobLog, JobOutput, JobProgress, follow, read_output, show_word
from conveyor.jobs.job import find_job, read_job_id
from conveyor.jobs.watching import key_id, read_key
from conveyor.model.clock import Clock
from conveyor.model.ids import MessageId
from conveyor.model.refusals import ForbiddenError, InvalidRequestError, TooManyRequestsError
from conveyor.model.report import Kind
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import read_cursor, write_cursor
from conveyor.server.rest.shapes import Asked, Moment, Page, PageAsked, Told, moment
from conveyor.server.rest.tickets import LIFE_S, Tickets
from conveyor.server.rights import Caller, Right
from conveyor.server.tokens import ENVIRONMENT_ID, Tokens

if TYPE_CHECKING:
    from conveyor.app import Conveyor

HEARTBEAT_S: Final = 15.0
VERIFY_S: Final = 2.0
DRAIN_S: Final = 2.0
WATCHERS_MAX: Final = 1_000
WATCHERS_OF_JOB_MAX: Final = 32
"""With one token."""
LOOK: Final = "job.peek"
"""In the audit trail: what a job says may be anything. Nothing is recorded of an end user who looks at its own."""
_END: Final = "-end"
"""Of the id of a job's end: whoever comes back with it has seen all."""


class WatchAsked(Asked, frozen=True, kw_only=True):
    """From where on."""

    after: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    """The id of the last event that came; `Last-Event-ID` goes before it."""


class TicketForJob(Told, frozen=True, kw_only=True):
    """Good for one stream of this job."""

    ticket: str
    expires_at: Moment


class LogShown(Told, frozen=True, kw_only=True):
    """A line of a job's log."""

    number: int
    at: Moment
    attempt: int
    level: str
    text: str


class OutputShown(Told, frozen=True, kw_only=True):
    """A job's output so far: text, if only text was written, else bytes."""

    text: str | None
    base64: bytes | None


class Saying(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way out; without a name, a heartbeat."""

    id: str | None = None
    event: str = ""
    data: dict[str, Any] = {}


class JobStreams:
    """Those of one process."""

    def __init__(self, app: Conveyor, tokens: Tokens, tickets: Tickets) -> None:
        self._app = app
        self._tokens = tokens
        self.tickets = tickets
        self._watchers: dict[object, tuple[Caller, MessageId]] = {}
        self._closing = asyncio.Event()
        self._gone = asyncio.Event()

    @property
    def _clock(self) -> Clock:
        return self._app.store.clock

    def open(self) -> None:
        self._closing = asyncio.Event()

    async def close(self) -> None:
        """Tell every watcher, and wait a little until they are gone."""
        self._closing.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self._watchers:
                    self._gone.clear()
                    await self._gone.wait()

    async def check_job(self, id: MessageId) -> None:
        """`JobNotFoundError`."""
        await find_job(self._app.store, id)

    def check_room(self, caller: Caller, id: MessageId) -> None:
        """`TooManyRequestsError` if too many watch, or too many this job with this token."""
        same = sum((each.token_id, job) == (caller.token_id, id) for each, job in self._watchers.values())
        if self._closing.is_set() or len(self._watchers) >= WATCHERS_MAX or same >= WATCHERS_OF_JOB_MAX:
            raise TooManyRequestsError(5.0)

    async def watch(self, caller: Caller, id: MessageId, after: int) -> AsyncGenerator[Saying, None]:
        """What the job says, its end; or why the stream ends before."""
        self.check_room(caller, id)
        mark = object()
        self._watchers[mark] = caller, id
        told = follow(self._app.store, id, after=after)
        step: asyncio.Future[JobEvent] | None = None
        closing = asyncio.ensure_future(self._closing.wait())
        verified_at = spoken_at = self._clock.monotonic()
        try:
            while True:
                step = step or asyncio.ensure_future(anext(told))
                await self._wait(step, closing)
                now = self._clock.monotonic()
                if now - verified_at >= VERIFY_S:
                    verified_at = now
                    if not await self._is_valid(caller):
                        yield _closed("revoked")
                        return
                if closing.done():
                    yield _closed("shutdown")
                    return
                if step.done():
                    event, step, spoken_at = step.result(), None, now
                    yield _show(event)
                    if isinstance(event, JobEnd):
                        return
                elif now - spoken_at >= HEARTBEAT_S:
                    spoken_at = now
                    yield Saying()
        finally:
            for task in (closing, *((step,) if step is not None else ())):
                task.cancel()
                with contextlib.suppress(BaseException):
                    await task
            await told.aclose()
            del self._watchers[mark]
            self._gone.set()

    async def _wait(self, step: asyncio.Future[JobEvent], closing: asyncio.Future[Any]) -> None:
        tick = asyncio.ensure_future(self._clock.sleep(VERIFY_S))
        try:
            await asyncio.wait((step, closing, tick), return_when=asyncio.FIRST_COMPLETED)
        finally:
            tick.cancel()

    async def _is_valid(self, caller: Caller) -> bool:
        """Whether the token is still good."""
        try:
            async with asyncio.timeout(VERIFY_S):
                if caller.job is not None:
                    key = await read_key(self._app.store)
                    is_known = key is not None and caller.token_id == key_id(key)
                    return is_known and (caller.expires_at or 0) > self._clock.now_ms()
                if caller.token_id == ENVIRONMENT_ID:
                    return True
                token = await self._tokens.get(caller.token_id or "")
        except Exception:  # noqa: BLE001 whoever cannot be verified is not let on
            return False
        return token.expires_at is None or token.expires_at > self._clock.now_ms()

    # Endpoints

    async def list_job_logs(self, call: Call) -> Answer:
        """The lines of a job's log, oldest first. A page may hold fewer than were asked for, and still have a next
        one."""
        asked, id = read_query(call, PageAsked), read_job_id(call.path["job"])
        await find_job(call.store, id)
        after = read_cursor("logs", asked.cursor, int) or 0
        words = await call.store.reports.read(id, after=after, limit=asked.limit)
        lines = [show_word(each) for each in words if each.kind is Kind.LOG]
        items = [LogShown(**_facts(each)) for each in lines if isinstance(each, JobLog)]
        following = write_cursor("logs", words[-1].number) if len(words) == asked.limit else None
        return Answer.json(Page(items=items, next_cursor=following))

    async def get_job_output(self, call: Call) -> Answer:
        """What a job has written so far, of its last attempt that wrote anything."""
        output = await read_output(call.store, read_job_id(call.path["job"]))
        if isinstance(output, str):
            return Answer.json(OutputShown(text=output, base64=None))
        return Answer.json(OutputShown(text=None, base64=output))

    async def stream_job(self, call: Call) -> Answer:
        """What a job says, as server-sent events: `progress`, `log`, `output`, and at last `end`."""
        return await self._answer(call)

    async def stream_job_by_ticket(self, call: Call) -> Answer:
        """The same for a browser's `EventSource`, which cannot send a token: with a ticket, once."""
        call.target = call.path["job"]
        call.caller = self.tickets.redeem(call.path["ticket"])
        check_watcher(call.caller, call.path["job"])
        return await self._answer(call)

    async def _answer(self, call: Call) -> Answer:
        id = read_job_id(call.path["job"])
        after, is_over = read_after(call.header("last-event-id") or read_query(call, WatchAsked).after)
        found = await find_job(call.store, id)
        if is_over and found.is_final(call.store.clock.now_ms()):
            return Answer(204)  # an `EventSource` does not come back then
        self.check_room(call.caller, id)
        stream = _as_events(self.watch(call.caller, id, after))
        return Answer(200, b": conveyor\n\n", content_type=b"text/event-stream", stream=stream)

    async def create_job_ticket(self, call: Call) -> Answer:
        """A ticket for one stream of this job, to be opened within 30 s."""
        await find_job(call.store, read_job_id(call.path["job"]))
        expires_at = moment(self._clock.now_ms() + int(LIFE_S * 1000))
        return Answer.json(TicketForJob(ticket=self.tickets.issue(call.caller), expires_at=expires_at), 201)

    def operations(self) -> tuple[Operation, ...]:
        """All of them, but for the WebSocket."""
        return (
            Operation(
                method="GET", path="/jobs/{job}/logs", right=Right.READ, scope="job", handle=self.list_job_logs,
                action=LOOK, query=PageAsked, gives=Page[LogShown],
            ),
            Operation(
                method="GET", path="/jobs/{job}/output", right=Right.READ, scope="job", handle=self.get_job_output,
                action=LOOK, gives=OutputShown,
            ),
            Operation(
                method="GET", path="/jobs/{job}/stream", right=Right.READ, scope="job", handle=self.stream_job,
                action=LOOK, query=WatchAsked, streams=True, headers=("Last-Event-ID",),
            ),
            Operation(
                method="GET", path="/jobs/{job}/stream/{ticket}", right=None, handle=self.stream_job_by_ticket,
                action=LOOK, query=WatchAsked, streams=True, headers=("Last-Event-ID",),
            ),
            Operation(
                method="POST", path="/jobs/{job}/tickets", right=Right.READ, scope="job",
                handle=self.create_job_ticket, gives=TicketForJob, status=201,
            ),
        )  # fmt: skip


def check_watcher(caller: Caller, job: str) -> None:
    """`ForbiddenError` for a ticket of another job's, or of a token that may not read jobs."""
    if not caller.may_watch(job):
        raise ForbiddenError(Right.READ)


def read_after(text: str | None) -> tuple[int, bool]:
    """The number in an event's id, and whether it was the end. `InvalidRequestError`."""
    number = (text or "0").removesuffix(_END)
    if not number.isascii() or not number.isdecimal() or len(number) > 18:
        raise InvalidRequestError("`after` is the id of no event of a job", hint="give it as it came", status=422)
    return int(number), text is not None and text.endswith(_END)


def _closed(reason: str) -> Saying:
    return Saying(event="closed", data={"reason": reason})


def _facts(event: JobEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__slots__}


def _show(event: JobEvent) -> Saying:
    facts = _facts(event)
    match event:
        case JobProgress():
            return Saying(id=str(event.number), event="progress", data=facts)
        case JobLog():
            return Saying(id=str(event.number), event="log", data=facts)
        case JobOutput(chunk=chunk):
            del facts["chunk"]
            facts |= {"text": chunk, "base64": None} if isinstance(chunk, str) else {"text": None, "base64": chunk}
            return Saying(id=str(event.number), event="output", data=facts)
        case JobEnd():
            # the error's words are for those who may read jobs: a page of an end user shows the state
            return Saying(id=f"{event.number}{_END}", event="end", data={"state": event.state})


async def _as_events(told: AsyncIterator[Saying]) -> AsyncGenerator[bytes, None]:
    """As the SSE format has it."""
    async for each in told:
        if not each.event:
            yield b": heartbeat\n\n"
            continue
        head = f"id: {each.id}\n" if each.id else ""
        yield f"{head}event: {each.event}\ndata: ".encode() + msgspec.json.encode(each.data) + b"\n\n"
