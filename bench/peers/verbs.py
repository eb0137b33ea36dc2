"""What a peer's process does for the bench: each verb on a queue of its own, from its opening to its closing."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from bench.peers.contract import Answer, Body, Note, Peer
from bench.peers.marks import Marks
from bench.peers.pace import Flow, Pace
from bench.peers.payload import payload

WARM_CALLS_SECONDS = 0.3
FILL_BATCH = 5_000
NAP_SECONDS = 0.002

T = TypeVar("T")


def is_async(peer: Peer) -> bool:
    return inspect.iscoroutinefunction(peer.send)


def run(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop where it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(work)
    return uvloop.run(work)


async def opened(peer: Peer, url: str, verb: Callable[[Peer], Coroutine[Any, Any, Answer]]) -> Answer:
    """The verb's answer, and the loop that it ran on."""
    await _done(peer.open(url))
    try:
        return {**await verb(peer), "loop": _loop_name()}
    finally:
        await _done(peer.close())


async def describe(peer: Peer) -> Answer:
    facts: Answer = await _done(peer.facts())
    callers = "coroutines" if is_async(peer) else "threads"
    own = {"name": peer.name, "store": peer.store, "drained": peer.drained, "callers": callers}
    return {**facts, **own, "ways": {label: dict(settings) for label, settings in peer.ways.items()}}


async def left(peer: Peer) -> Answer:
    return {"left": await _done(peer.left())}


async def fill(peer: Peer, count: int) -> Answer:
    """Messages 0..count-1, as fast as can be: this is not measured."""
    for first in range(0, count, FILL_BATCH):
        await _done(peer.send_many(_bodies(range(first, min(count, first + FILL_BATCH)))))
    return {"sent": count}


async def enqueue(peer: Peer, callers: int, seconds: float) -> Answer:
    """`rate`: acknowledged sends a second, from so many callers at once, after a short warm-up."""
    hammer = _hammer if is_async(peer) or callers == 1 else _hammer_from_threads
    warm = await hammer(peer, callers, WARM_CALLS_SECONDS)
    started = monotonic()
    sent = await hammer(peer, callers, seconds)
    return {"rate": sent / (monotonic() - started), "sent": warm + sent}


async def bulk(peer: Peer, size: int, seconds: float) -> Answer:
    """`rate`: messages a second from one caller that hands over `size` at a time."""
    bodies = _bodies(range(size))
    await _done(peer.send_many(bodies))
    started, calls = monotonic(), 0
    while monotonic() < started + seconds:
        await _done(peer.send_many(bodies))
        calls += 1
    return {"rate": size * calls / (monotonic() - started), "sent": size * (calls + 1)}


async def trickle(peer: Peer, pace: Pace) -> Answer:
    """Send one by one at the moments that `pace` gives."""
    for number, moment in pace:
        await asyncio.sleep(max(0.0, moment - monotonic()))
        pace.sending(number)
        await _done(peer.send(payload(number)))
    return {"first": pace.first, "count": pace.count, "sent": pace.first + pace.count}


async def pump(peer: Peer, flow: Flow) -> Answer:
    """Send as much as the worker takes."""
    while flow.goes_on():
        numbers = flow.next()
        if numbers:
            await _done(peer.send_many(_bodies(numbers)))
        else:
            await asyncio.sleep(NAP_SECONDS)
    return {"sent": flow.sent}


def work(peer: Peer, url: str, marks: Path, settings: dict[str, int]) -> Answer:
    """Handle messages until ended. The loop's name is noted beside the marks."""
    note = noting(marks)
    if inspect.iscoroutinefunction(peer.work):
        run(peer.work(url, note, settings))
    else:
        peer.work(url, note, settings)
    return {}


def noting(path: Path) -> Note:
    """What a handler calls with its message's number. Its file is opened by the first message, so in the worker."""
    marks: Marks | None = None

    def note(number: Any) -> None:
        nonlocal marks
        if marks is None:
            marks = Marks(path)
            path.with_suffix(".loop").write_text(_loop_name())
        marks.mark(number)

    return note


async def _hammer(peer: Peer, callers: int, seconds: float) -> int:
    numbers = itertools.count()
    end = monotonic() + seconds

    async def call() -> None:
        while monotonic() < end:
            await _done(peer.send(payload(next(numbers))))

    await asyncio.gather(*(call() for _ in range(callers)))
    return next(numbers)


async def _hammer_from_threads(peer: Peer, callers: int, seconds: float) -> int:
    numbers = itertools.count()
    end = monotonic() + seconds

    def call() -> None:
        while monotonic() < end:
            peer.send(payload(next(numbers)))

    with ThreadPoolExecutor(callers) as pool:
        running = [pool.submit(call) for _ in range(callers)]
    for one in running:
        one.result()
    return next(numbers)


async def _done(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


def _bodies(numbers: range) -> list[Body]:
    return [payload(number) for number in numbers]


def _loop_name() -> str:
    """Threads have none."""
    try:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]
    except RuntimeError:
        return ""
