"""What a store answers that is not made of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from conveyor.model.message import Draft
from conveyor.store.promise import Promise


class Undivided:
    """All queues live in this very store."""

    keeps_others: bool = False
    """Its queues are others' too: an app uses them, and neither makes nor judges them."""

    keeps_trail: bool = True
    """What is recorded of its changes is recorded here; of several stores, one keeps the trail of all."""

    def at(self, queue: str) -> Self:
        return self

    def append_for(self, drafts: Sequence[Draft], promise: Promise) -> bool:
        return False
