"""Ctrl-C, SIGTERM and SIGHUP all end the demo in the same order; while children are started or stopped they wait."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Turns signals into `KeyboardInterrupt`, but never in the middle of what must be finished."""

    def __init__(self) -> None:
        self._held = 0
        self._pending = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over for the length of the block."""
        before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Finish the block first; a signal that came meanwhile is raised at its end."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._pending and not self._held:
            self._pending = False
            raise KeyboardInterrupt

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """An impatient second Ctrl-C does not break off the cleaning up."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._pending = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._pending = True
            return
        raise KeyboardInterrupt
