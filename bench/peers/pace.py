"""When to send what: one by one at a steady pace, or as much as the worker takes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from bench.peers.marks import Marks, Watch

WARM_MESSAGES = 50
WARM_SLOTS = 1_500
JITTER_SEED = 7


class Pace:
    """A warm-up until the worker answers, then `rate` a second, jittered alike for everybody."""

    def __init__(self, sent: Path, handled: Path, rate: float, seconds: float) -> None:
        self._sent, self._handled = Marks(sent), Watch(handled)
        self._gap, self.count = 1 / rate, round(rate * seconds)
        self.first = 0

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Number and moment; the caller sleeps until the moment, notes it with `sending`, and sends."""
        start = monotonic()
        answered: int | None = None
        for number in itertools.count():
            if answered is None and self._handled.calls():
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
        for step in range(self.count):
            yield self.first + step, start + (step + chance.random()) * self._gap

    def sending(self, number: int) -> None:
        self._sent.mark(number)


class Flow:
    """Batches, as long as no more than `ahead` messages wait for the worker. The numbers of all are 0, 1, 2, ..."""

    def __init__(self, handled: Path, *, batch: int, ahead: int, seconds: float) -> None:
        self._handled = Watch(handled)
        self._batch, self._ahead = batch, ahead
        self._end = monotonic() + seconds
        self.sent = 0

    def goes_on(self) -> bool:
        return monotonic() < self._end

    def next(self) -> range:
        """The numbers of the next batch; empty while enough are waiting."""
        if self.sent - self._handled.calls() > self._ahead - self._batch:
            return range(0)
        self.sent += self._batch
        return range(self.sent - self._batch, self.sent)
