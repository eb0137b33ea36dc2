"""What a store answers that is not made of others."""

from __future__ import annotations

from typing import Self


class Undivided:
    """All queues live in this very store."""

    keeps_others: bool = False
    """Its queues are others' too: an app uses them, and neither makes nor judges them."""

    keeps_trail: bool = True
    """What is recorded of its changes is recorded here; of several stores, one keeps the trail of all."""

    def at(self, queue: str) -> Self:
        return self
