"""A file of moments: slot n says when message n was handled (or sent), in nanoseconds of the machine's clock.

A worker in any process and any Python writes it through a memory map, without a system call; the bench reads it
to see how far the worker is. What was lost, or handled twice, cannot pass for speed: a slot counts once.
"""

from __future__ import annotations

import mmap
import os
from array import array
from pathlib import Path
from time import monotonic_ns

WORD = 8


class Marks:
    """The writing side: `mark(n)` notes the first time that n is seen; numbers past the end are ignored."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._slots = memoryview(self._map).cast("q")
        self._length = len(self._slots)

    def mark(self, number: int) -> None:
        if number < self._length and not self._slots[number]:
            self._slots[number] = monotonic_ns()


def create_marks(path: Path, count: int) -> None:
    """An empty file of `count` slots, on disk before anything is measured."""
    with path.open("wb") as file:
        file.write(bytes(WORD * count))
        file.flush()
        os.fsync(file.fileno())


def read_marks(path: Path) -> list[int]:
    """Every slot, zero where nothing was noted yet."""
    return array("q", path.read_bytes()).tolist()
