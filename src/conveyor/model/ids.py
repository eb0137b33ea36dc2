"""Time-ordered ids, made by the client: 128 bits, shown as 32 hex digits.

48 bits of milliseconds, a 32-bit counter that keeps the order within a process, and 48 random bits that tell processes
apart. Sortable like a UUID of version 7 (RFC 9562, section 5.7), without its version bits.
"""

from __future__ import annotations

import os
from typing import NewType

from conveyor.model.clock import Clock

MessageId = NewType("MessageId", bytes)  # 16 bytes
ID_BYTES = 16


class IdSource:
    """Makes ids that never repeat and never go back, in one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counter = 0
        self._last_ms = 0
        self._pid = 0
        self._tail = b""

    def follow(self, clock: Clock) -> None:
        """Take the time from another clock from now on."""
        self._clock = clock

    def new(self) -> MessageId:
        self._look_around()
        self._counter = (self._counter + 1) & 0xFFFFFFFF
        return MessageId(((self._last_ms << 32) | self._counter).to_bytes(10, "big") + self._tail)

    def new_all(self, count: int) -> list[MessageId]:
        """So many, all of one moment."""
        self._look_around()
        moment, tail, first = self._last_ms << 32, self._tail, self._counter + 1
        self._counter = (self._counter + count) & 0xFFFFFFFF
        return [
            MessageId((moment | number & 0xFFFFFFFF).to_bytes(10, "big") + tail)
            for number in range(first, first + count)
        ]

    def _look_around(self) -> None:
        if os.getpid() != self._pid:  # a forked child must not repeat its parent's ids
            self._pid, self._tail = os.getpid(), os.urandom(6)
        now = self._clock.now_ms()
        if now > self._last_ms:
            self._last_ms = now


def show_id(value: bytes) -> str:
    """The 32 hex digits that users and the wire see."""
    return value.hex()


def read_id(text: str) -> MessageId | None:
    """The id behind 32 hex digits, or None if it is none."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        return None
    return MessageId(value) if len(value) == ID_BYTES else None
