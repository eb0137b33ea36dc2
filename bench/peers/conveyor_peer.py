"""conveyor through its front door, at default settings; its worker is `conveyor work` (see `conveyor_app`)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

import apsw
import uvloop

from bench.peers.contract import SYNCHRONOUS, WARM_CALLS_SECONDS, Answer, Pace, python_version, run_peer
from bench.peers.payload import payload
from conveyor import Conveyor

BATCH = 100
BATCHES_AT_ONCE = 20

Enqueue = Callable[[object], Awaitable[object]]


class ConveyorPeer:
    """One application and one declared queue; producers run on uvloop."""

    def describe(self, file: Path) -> Answer:
        return {
            "versions": {
                "conveyor": version("conveyor"),
                "apsw": apsw.apsw_version(),
                "python": python_version(),
                "sqlite": apsw.sqlite_lib_version(),
                "uvloop": version("uvloop"),
            },
            "settings": f"defaults ({uvloop.run(_pragmas(file))})",
        }

    def enqueue(self, file: Path, callers: int, seconds: float) -> Answer:
        return uvloop.run(_enqueue(file, callers, seconds))

    def fill(self, file: Path, count: int) -> Answer:
        return uvloop.run(_fill(file, count))

    def work(self, file: Path, marks: Path, workers: int) -> Answer:
        raise NotImplementedError("conveyor's worker is its own command: conveyor work bench.peers.conveyor_app:app")

    def trickle(self, file: Path, pace: Pace) -> Answer:
        return uvloop.run(_trickle(file, pace))


def _declare(file: Path) -> Conveyor:
    app = Conveyor("bench", url=f"sqlite:///{file}")
    app.declare_queue("jobs")
    return app


async def _pragmas(file: Path) -> str:
    """As the connections that conveyor opened answer, after one send: what is printed was seen."""
    app = _declare(file)
    async with app:
        await app.queue("jobs").send(payload(0))
        writers = [connection for connection in apsw.connections() if not connection.readonly("main")]
        if not writers:
            raise RuntimeError("no writing connection of conveyor was seen")
        journal = {str(connection.pragma("journal_mode")) for connection in writers}
        levels = {SYNCHRONOUS[int(str(connection.pragma("synchronous")))] for connection in writers}
    return f"{'/'.join(sorted(journal))}, synchronous={'/'.join(sorted(levels))}"


async def _enqueue(file: Path, callers: int, seconds: float) -> Answer:
    app = _declare(file)
    async with app:
        send = app.queue("jobs").send
        await _hammer(send, callers, WARM_CALLS_SECONDS)
        started = monotonic()
        sends = await _hammer(send, callers, seconds)
        rate = sends / (monotonic() - started)
    loop = type(asyncio.get_running_loop()).__module__
    return {"rate": rate, "sends": sends, "loop": loop}


async def _hammer(send: Enqueue, callers: int, seconds: float) -> int:
    numbers = itertools.count()
    end = monotonic() + seconds

    async def call() -> None:
        while monotonic() < end:
            await send(payload(next(numbers)))

    await asyncio.gather(*(call() for _ in range(callers)))
    return next(numbers)


async def _fill(file: Path, count: int) -> Answer:
    app = _declare(file)
    async with app:
        send_batch = app.queue("jobs").send_batch
        for start in range(0, count, BATCH * BATCHES_AT_ONCE):
            ends = range(start, min(count, start + BATCH * BATCHES_AT_ONCE), BATCH)
            await asyncio.gather(*(_send_range(send_batch, first, min(count, first + BATCH)) for first in ends))
    return {"count": count}


def _send_range(
    send_batch: Callable[[list[dict[str, object]]], Coroutine[Any, Any, object]], first: int, end: int
) -> Coroutine[Any, Any, object]:
    return send_batch([payload(number) for number in range(first, end)])


async def _trickle(file: Path, pace: Pace) -> Answer:
    app = _declare(file)
    async with app:
        queue = app.queue("jobs")
        for number, moment in pace:
            await asyncio.sleep(max(0.0, moment - monotonic()))
            pace.sending(number)
            await queue.send(payload(number))
    return pace.answer()


if __name__ == "__main__":
    run_peer(ConveyorPeer())
