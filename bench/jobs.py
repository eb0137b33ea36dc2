"""`python -m bench.jobs`: what a tracked job costs beside an untracked message, on each store.

Both are handled one by one by the same worker in the same process; jobs return a number, which is kept. Rounds are
interleaved, each on a fresh store, and end with a count: as many were handled as were sent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from bench.machine import conditions
from bench.places import Files, Place
from bench.postgres import Server
from bench.program import MeasureError
from conveyor import Conveyor, Message

SENDERS = 50
MOST = 2.5
"""Times an untracked message."""


async def measure(url: str, *, tracked: bool, count: int) -> tuple[float, float]:
    """Seconds that sending and that handling took."""
    app, handled, over = Conveyor("bench", url=url, wrangler=None), 0, asyncio.Event()

    def handle() -> None:
        nonlocal handled
        handled += 1
        if handled >= count:
            over.set()

    if tracked:

        @app.job(queue="q")
        async def job(number: int) -> int:
            handle()
            return number

    else:

        @app.consumer("q")
        async def consume(message: Message[int]) -> None:
            handle()

    async with app:
        queue = app.queue("q")

        async def send(first: int) -> None:
            for number in range(first, count, SENDERS):
                await (job.enqueue(number) if tracked else queue.send(number))

        started = perf_counter()
        await asyncio.gather(*(send(first) for first in range(SENDERS)))
        sent = perf_counter()
        worker = asyncio.create_task(app.work())
        await over.wait()
        while (await queue.metrics()).backlog_messages:  # noqa: ASYNC110 the store has no event
            await asyncio.sleep(0.002)
        ended = perf_counter()
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker
    if handled != count:
        raise MeasureError(f"{handled} handled, {count} sent")
    return sent - started, ended - sent


def compare(place: Place, folder: Path, *, rounds: int, count: int) -> float:
    """The median of the rounds' ratios, of the whole way of a message."""
    ratios = []
    for number in range(rounds):
        took = []
        for tracked in (False, True):
            room = folder / f"{number}{tracked}"
            room.mkdir()
            url = place.fresh(room)
            took.append(asyncio.run(measure(url, tracked=tracked, count=count)))
            place.drop(url)
        (send, handle), (job_send, job_handle) = took
        ratios.append((job_send + job_handle) / (send + handle))
        print(
            f"{place.name:9} untracked {count / send:7,.0f}/s sent {count / handle:7,.0f}/s handled   "
            f"jobs {count / job_send:7,.0f}/s {count / job_handle:7,.0f}/s   "
            f"times {job_send / send:.2f} {job_handle / handle:.2f}, both {ratios[-1]:.2f}",
            flush=True,
        )
    return statistics.median(ratios)


def main() -> int:
    """1 if a job costs more than it may on a store."""
    parser = argparse.ArgumentParser(prog="python -m bench.jobs")
    parser.add_argument("--store", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--dir", type=Path, default=None, help="where the stores' files are")
    arguments = parser.parse_args()
    missed = False
    with TemporaryDirectory(dir=arguments.dir) as name:
        folder = Path(name)
        folder.chmod(0o755)
        for line in conditions(folder).items():
            print(*line, sep=": ")
        for store in ["sqlite", "postgres"] if arguments.store == "both" else [arguments.store]:
            place: Place = Files() if store == "sqlite" else Server(folder / "postgres")
            rooms = folder / f"{store}-rooms"
            rooms.mkdir()
            try:
                ratio = compare(place, rooms, rounds=arguments.rounds, count=arguments.count)
            finally:
                if isinstance(place, Server):
                    place.remove()
            missed |= ratio > MOST
            word = "MISS" if ratio > MOST else "PASS"
            print(f"{store:9} {word}: a job takes {ratio:.2f} times as long, {MOST} at most")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
