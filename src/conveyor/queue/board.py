"""The table of messages whose handlers have begun and are not settled, in memory that outlives the worker.

A worker writes, its supervisor reads: after the worker's death it is T5's evidence. Eight little-endian bytes per
slot, 0 is free; the first word is the time of the worker's last heartbeat, so that a blocked event loop can be seen
from outside.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Final, Self

SLOTS_DEFAULT: Final = 65_536
"""512 KiB of address space, of which only what is touched is memory."""
_WORD_BYTES: Final = 8
_BEAT: Final = 0


class Board:
    """One worker's table. One writer, on one thread; any number of readers, who see whole words."""

    def __init__(self, fd: int, capacity: int) -> None:
        self.fd = fd
        self.capacity = capacity
        self._map = mmap.mmap(fd, (capacity + 1) * _WORD_BYTES)
        self._words = memoryview(self._map).cast("q")
        self._free = list(range(capacity, 0, -1))  # a stack, so that few pages are ever touched

    @classmethod
    def create(cls, capacity: int = SLOTS_DEFAULT) -> Self:
        """A new, empty board; `fd` may be inherited by another process."""
        fd = _anonymous_file()
        os.set_inheritable(fd, True)
        os.ftruncate(fd, (capacity + 1) * _WORD_BYTES)
        return cls(fd, capacity)

    @classmethod
    def attach(cls, fd: int) -> Self:
        """The board behind a descriptor; who attaches to write must be the only writer, and finds it empty."""
        return cls(fd, os.fstat(fd).st_size // _WORD_BYTES - 1)

    @property
    def free(self) -> int:
        """Messages that may still be started."""
        return len(self._free)

    def start(self, seq: int) -> int:
        """A handler begins with this message: the slot it has until `end`."""
        slot = self._free.pop()
        self._words[slot] = seq
        return slot

    def end(self, slot: int) -> None:
        """The message in this slot is settled."""
        self._words[slot] = 0
        self._free.append(slot)

    def running(self) -> frozenset[int]:
        """Messages whose handlers have begun and are not settled."""
        return frozenset(seq for seq in self._words[1:].tolist() if seq)

    def beat(self, now_ms: int) -> None:
        """The worker's event loop is alive."""
        self._words[_BEAT] = now_ms

    @property
    def last_beat_ms(self) -> int:
        """0: it never was."""
        return self._words[_BEAT]

    def clear(self) -> None:
        """For the next worker on the same board, after the last one's death."""
        self._words[:] = memoryview(bytes(len(self._words) * _WORD_BYTES)).cast("q")
        self._free = list(range(self.capacity, 0, -1))

    def close(self) -> None:
        self._words.release()
        self._map.close()
        os.close(self.fd)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("conveyor-board")
    fd, path = tempfile.mkstemp(prefix="conveyor-board-")
    os.unlink(path)
    return fd
