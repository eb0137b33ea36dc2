"""A file of moments: slot n says when message n was handled (or sent), in nanoseconds of the machine's clock.

A worker in any process and any Python writes it through a memory map, without a system call; the bench reads it
to see how far the worker is. Behind the slots each process counts its calls: what was lost cannot pass for speed,
and what was handled twice is seen.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns

WORD = 8
TALLIES = 64
HOLE = bytes(1 << 20)


class Marks:
    """The writing side: `mark(n)` notes the first time that n is seen, and that there was a call."""

    def __init__(self, path: Path) -> None:
        self._slots = _open(path)
        self._length = len(self._slots) - TALLIES
        self._tally = self._length + os.getpid() % TALLIES

    def mark(self, number: int) -> None:
        self._slots[self._tally] += 1
        if number < self._length and not self._slots[number]:
            self._slots[number] = monotonic_ns()

    def is_marked(self, number: int) -> bool:
        return bool(self._slots[number])


class Watch:
    """The reading side: how many calls there were, and when."""

    def __init__(self, path: Path) -> None:
        self._slots = _open(path)

    def calls(self) -> int:
        return sum(self._slots[-TALLIES:])

    def moments(self) -> memoryview[int]:
        """When each number was seen first, zero where it was not. There may be millions, so they are not copied."""
        return self._slots[:-TALLIES]

    def seen(self) -> list[int]:
        """The moments of all that was seen, in order."""
        return sorted(filter(None, self.moments()))

    def count_seen(self) -> int:
        return sum(1 for moment in self.moments() if moment)


def create_marks(path: Path, count: int) -> None:
    """An empty file of `count` slots, on disk before anything is measured."""
    size = WORD * (count + TALLIES)
    with path.open("wb") as file:
        for piece in _pieces(size):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _open(path: Path) -> memoryview[int]:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("q")


def _pieces(size: int) -> Iterator[bytes]:
    while size:
        piece = HOLE[:size]
        size -= len(piece)
        yield piece
