"""Reads what jobs say, and follows one from a number on to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from conveyor.model.ids import MessageId
from conveyor.model.job import FINAL, JobState
from conveyor.model.job_errors import JobNotFoundError
from conveyor.model.report import Kind, Word
from conveyor.store.jobs import JobFound
from conveyor.store.protocol import Store
from conveyor.store.reports import Said, bell_of

LOOK_S_FIRST: Final = 0.02
LOOK_S_MAX: Final = 0.5
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a job is."""

    number: int
    """Of all that the job has said: give it as `after` to go on from here."""
    at: datetime
    attempt: int
    fraction: float
    """0 to 1."""
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLog:
    """A line of a job's log."""

    number: int
    at: datetime
    attempt: int
    level: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutput:
    """A piece of a job's output."""

    number: int
    at: datetime
    attempt: int
    chunk: str | bytes
    """As it was written, or several in one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """The job is over; nothing comes after it."""

    number: int
    """The last."""
    state: JobState
    error: str | None


JobEvent: TypeAlias = JobProgress | JobLog | JobOutput | JobEnd


async def follow(store: Store, id: MessageId, *, after: int = 0) -> AsyncGenerator[JobEvent, None]:
    """What the job has said after this number, what it says from now on, and its end. `JobNotFoundError`."""
    rung = asyncio.Event()
    bell = ""
    unsubscribe = store.subscribe(lambda names: rung.set() if bell in names else None)
    pause_s = LOOK_S_FIRST
    try:
        while True:
            rung.clear()
            found = await _find(store, id)  # first: all that was said before its end is there when the end is
            bell = bell_of(found.queue)
            events, after, is_more = await _read(store, id, after)
            for event in events:
                yield event
            if is_more:
                continue
            state = found.state(store.clock.now_ms())
            if state in FINAL:
                yield JobEnd(number=after, state=state, error=None if found.record is None else found.record.error)
                return
            pause_s = LOOK_S_FIRST if events else min(pause_s * 1.5, LOOK_S_MAX)
            await _wait(store, rung, pause_s)
    finally:
        unsubscribe()


async def read_all(store: Store, id: MessageId, *, after: int = 0) -> AsyncGenerator[JobEvent, None]:
    """What the job has said after this number until now. `JobNotFoundError`."""
    await _find(store, id)
    is_more = True
    while is_more:
        events, after, is_more = await _read(store, id, after)
        for event in events:
            yield event


async def _wait(store: Store, rung: asyncio.Event, seconds: float) -> None:
    """Until the bell rings, and so long at most."""
    tasks = asyncio.ensure_future(rung.wait()), asyncio.ensure_future(store.clock.sleep(seconds))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _read(store: Store, id: MessageId, after: int) -> tuple[list[JobEvent], int, bool]:
    """Events, the number that they end with, and whether there are more."""
    said = await store.reports.find(id)
    if said is None or said.last_number <= after:
        return [], after, False
    words = list(await store.reports.read(id, after=after, limit=_PAGE))
    is_more = len(words) == _PAGE
    last = words[-1].number if is_more else said.last_number
    if said.progress is not None and said.progress.number > after:
        words.append(said.progress)
    told = sorted((each for each in words if each.number <= last), key=lambda word: word.number)
    return [show_word(each) for each in told], last, is_more


async def read_words(store: Store, id: MessageId, kind: Kind) -> list[Word]:
    """All of a kind that are kept. `JobNotFoundError`."""
    found: list[Word] = []
    page: Sequence[Word] = ()
    while page := await store.reports.read(id, after=page[-1].number if page else 0, limit=_PAGE):
        found += [each for each in page if each.kind is kind]
    if not found:
        await _find(store, id)
    return found


async def read_logs(store: Store, id: MessageId) -> list[JobLog]:
    """The log, oldest line first. `JobNotFoundError`."""
    return [_show_log(each) for each in await read_words(store, id, Kind.LOG)]


async def read_output(store: Store, id: MessageId) -> str | bytes:
    """Text if only text was written. `JobNotFoundError`."""
    words = await read_words(store, id, Kind.OUTPUT)
    output = b"".join(each.body for each in words)
    return output.decode() if all(each.is_text for each in words) else output


async def _find(store: Store, id: MessageId) -> JobFound:
    found = await store.jobs.find([id])
    if not found:
        raise JobNotFoundError(id.hex())
    return found[0]


def show_progress(said: Said | None) -> JobProgress | None:
    return None if said is None or said.progress is None else _show_progress(said.progress)


def show_word(word: Word) -> JobProgress | JobLog | JobOutput:
    match word.kind:
        case Kind.PROGRESS:
            return _show_progress(word)
        case Kind.LOG:
            return _show_log(word)
        case Kind.OUTPUT:
            chunk = word.body.decode() if word.is_text else word.body
            return JobOutput(number=word.number, at=_moment(word.at), attempt=word.attempt, chunk=chunk)


def _show_progress(word: Word) -> JobProgress:
    return JobProgress(
        number=word.number, at=_moment(word.at), attempt=word.attempt, fraction=word.fraction or 0.0,
        note=word.body.decode(),
    )  # fmt: skip


def _show_log(word: Word) -> JobLog:
    return JobLog(
        number=word.number, at=_moment(word.at), attempt=word.attempt, level=word.level or "info",
        text=word.body.decode(),
    )  # fmt: skip


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
