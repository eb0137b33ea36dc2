"""What the bench asks of a queue, and the command line that all peer scripts share.

    python -m bench.peers.huey_peer enqueue --file /tmp/x.db --callers 50 --seconds 3   ->   {"rate": ...}

Five verbs: describe, enqueue, fill, work, trickle. Each is one process on one file. `work` runs until it is ended.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Protocol

from bench.peers.marks import Marks, read_marks
from bench.peers.payload import payload

WARM_CALLS_SECONDS = 0.3
WARM_MESSAGES = 50
WARM_SLOTS = 1_500
JITTER_SEED = 7
SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}

Answer = dict[str, object]
Send = Callable[[dict[str, object]], object]


class Peer(Protocol):
    """A queue that can be measured."""

    def describe(self, file: Path) -> Answer:
        """`versions` and `settings`, as far as they can be read from the open queue itself."""

    def enqueue(self, file: Path, callers: int, seconds: float) -> Answer:
        """`rate`: acknowledged sends a second, from so many callers at once."""

    def fill(self, file: Path, count: int) -> Answer:
        """Put messages 0..count-1 in, as fast as can be: this is not measured."""

    def work(self, file: Path, marks: Path, workers: int) -> Answer:
        """Handle messages until ended, noting each in `marks`."""

    def trickle(self, file: Path, pace: Pace) -> Answer:
        """Send one by one at the moments that `pace` gives."""


class Pace:
    """When to send what: a warm-up until the worker answers, then `rate` a second, jittered alike for everybody."""

    def __init__(self, sent: Path, handled: Path, rate: float, seconds: float) -> None:
        self._sent, self._handled = Marks(sent), handled
        self._gap, self._count = 1 / rate, round(rate * seconds)
        self.first = 0

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Number and moment; the caller sleeps until the moment, notes it with `sending`, and sends."""
        start = monotonic()
        answered: int | None = None
        for number in itertools.count():
            if answered is None and any(read_marks(self._handled)):
                answered = number
            if answered is not None and number >= answered + WARM_MESSAGES:
                break
            if number >= WARM_SLOTS - WARM_MESSAGES and answered is None:
                raise TimeoutError("no worker answered the warm-up")
            yield number, start + number * self._gap
        self.first = number
        yield from self._measured(start + number * self._gap)

    def _measured(self, start: float) -> Iterator[tuple[int, float]]:
        """A jitter of one gap keeps a poll loop's period from falling into step with the sender's."""
        chance = random.Random(JITTER_SEED)
        for step in range(self._count):
            yield self.first + step, start + (step + chance.random()) * self._gap

    def sending(self, number: int) -> None:
        self._sent.mark(number)

    def answer(self) -> Answer:
        return {"first": self.first, "count": self._count}


def trickle_blocking(send: Send, pace: Pace) -> Answer:
    """`trickle` for a queue whose send blocks."""
    for number, moment in pace:
        sleep(max(0.0, moment - monotonic()))
        pace.sending(number)
        send(payload(number))
    return pace.answer()


def enqueue_from_threads(send: Send, callers: int, seconds: float) -> Answer:
    """`enqueue` for a queue whose send blocks: a short warm-up, then the measured stretch."""
    _hammer(send, callers, WARM_CALLS_SECONDS)
    started = monotonic()
    sends = _hammer(send, callers, seconds)
    return {"rate": sends / (monotonic() - started), "sends": sends}


def _hammer(send: Send, callers: int, seconds: float) -> int:
    numbers = itertools.count()
    end = monotonic() + seconds

    def call() -> None:
        while monotonic() < end:
            send(payload(next(numbers)))

    with ThreadPoolExecutor(callers) as pool:
        running = [pool.submit(call) for _ in range(callers)]
    for one in running:
        one.result()
    return next(numbers)


def python_version() -> str:
    return platform.python_version()


def run_peer(peer: Peer) -> None:
    """Do the one verb that the command line names and print the answer."""
    arguments = _parser().parse_args()
    answer = _obey(peer, arguments)
    print(json.dumps(answer), flush=True)


def _obey(peer: Peer, arguments: argparse.Namespace) -> Answer:
    match arguments.verb:
        case "describe":
            return peer.describe(arguments.file)
        case "enqueue":
            return peer.enqueue(arguments.file, arguments.callers, arguments.seconds)
        case "fill":
            return peer.fill(arguments.file, arguments.count)
        case "work":
            return peer.work(arguments.file, arguments.marks, arguments.workers)
        case _:
            pace = Pace(arguments.sent, arguments.marks, arguments.rate, arguments.seconds)
            return peer.trickle(arguments.file, pace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["describe", "enqueue", "fill", "work", "trickle"])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--marks", type=Path)
    parser.add_argument("--sent", type=Path)
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    return parser
