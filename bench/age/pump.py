"""`python -m bench.age.pump`: sends a day's messages as the worker takes them, looks after the dead letters, and times
lone sends. Ends when all was handled or cleared, and says so in one line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Any, Final

from bench.age.app import DEAD, ORDERED, PROBES, QUEUE, app, square
from bench.age.fates import Fate, ahead_of, delay_of, fate_of, key_of
from bench.peers.marks import Watch
from bench.peers.payload import payload
from bench.peers.verbs import run
from conveyor import Outgoing
from conveyor.queue.dead_letter import DeadLetters

BATCH: Final = 1_000
PIECE: Final = 100
NAP_S: Final = 0.002
PROBE_EVERY_S: Final = 0.05
TEND_EVERY_S: Final = 3.0
PATIENCE_S: Final = 120.0


class Pump:
    """One day of so many messages."""

    def __init__(self, marks: Path, messages: int) -> None:
        self._handled = Watch(marks)
        self._messages = messages
        self._sent = self._cleared = self._redriven = 0
        self._probes: list[tuple[float, float]] = []

    async def run(self) -> dict[str, Any]:
        """`TimeoutError` if nothing came to its end for two minutes."""
        async with asyncio.TaskGroup() as beside:
            helpers = [beside.create_task(self._probe()), beside.create_task(self._tend())]
            await self._send_all()
            sent_at = monotonic()
            await self._wait_ended()
            for helper in helpers:
                helper.cancel()
        return {
            "sent": self._sent,
            "cleared": self._cleared,
            "redriven": self._redriven,
            "sent_at": sent_at,
            "probes": self._probes,
        }

    @property
    def _ended(self) -> int:
        return self._handled.calls() + self._cleared

    async def _send_all(self) -> None:
        while self._sent < self._messages:
            if self._sent - self._ended < ahead_of(self._sent / self._messages, self._messages):
                numbers = range(self._sent, min(self._sent + BATCH, self._messages))
                await _send(numbers)
                self._sent = numbers.stop
            else:
                await asyncio.sleep(NAP_S)

    async def _wait_ended(self) -> None:
        ended, since = self._ended, monotonic()
        while ended < self._sent:
            await asyncio.sleep(NAP_S)
            if self._ended != ended:
                ended, since = self._ended, monotonic()
            elif monotonic() > since + PATIENCE_S:
                raise TimeoutError(f"{ended:,} of {self._sent:,} came to their end, and then no more")

    async def _probe(self) -> None:
        queue = app.queue(PROBES)
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            began = monotonic()
            await queue.send(payload(0))
            self._probes.append((began, monotonic() - began))

    async def _tend(self) -> None:
        """Those that are dead are sent back one time, and cleared the next."""
        letters = DeadLetters(app.store, DEAD)
        while True:
            await asyncio.sleep(TEND_EVERY_S)
            self._redriven += await letters.redrive()
            await asyncio.sleep(TEND_EVERY_S)
            self._cleared += await letters.purge()


async def _send(numbers: range) -> None:
    by_fate: dict[Fate, list[int]] = {fate: [] for fate in Fate}
    for number in numbers:
        by_fate[fate_of(number)].append(number)
    queue = app.queue(QUEUE)
    plain = [number for fate in (Fate.PLAIN, Fate.RETRIED, Fate.REJECTED) for number in by_fate[fate]]
    delayed = [Outgoing(payload(number), delay=delay_of(number)) for number in by_fate[Fate.DELAYED]]
    once = [Outgoing(payload(number), dedupe=f"once-{number}") for number in by_fate[Fate.DEDUPED]]
    keyed = [Outgoing(payload(number), key=key_of(number)) for number in by_fate[Fate.ORDERED]]
    sends = [queue.send_batch(piece) for piece in _pieces([payload(number) for number in plain])]
    sends += [app.queue(ORDERED).send_batch(piece) for piece in _pieces(keyed)]
    sends += [queue.send_batch(piece) for bodies in (delayed, once) for piece in _pieces(bodies)]
    await asyncio.gather(
        *sends, *(queue.send(payload(number)) for number in by_fate[Fate.ALONE]), square.enqueue_many(by_fate[Fate.JOB])
    )
    for piece in _pieces(once):
        await queue.send_batch(piece)


def _pieces(found: list[Any]) -> Iterable[list[Any]]:
    return (found[first : first + PIECE] for first in range(0, len(found), PIECE))


async def _day(marks: Path, messages: int) -> dict[str, Any]:
    async with app:
        return await Pump(marks, messages).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.age.pump", description=__doc__)
    parser.add_argument("--url", required=True, help="of the store; CONVEYOR_URL says it to the application")
    parser.add_argument("--marks", type=Path, required=True)
    parser.add_argument("--messages", type=int, required=True)
    told = parser.parse_args()
    sys.stdout.write(json.dumps(run(_day(told.marks, told.messages))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
