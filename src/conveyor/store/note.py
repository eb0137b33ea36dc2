"""The note that a move leaves in a store: where its messages went, or that they are still on their way.

It lies in `migrations`, under a number that no release ships: so that releases which know nothing of moves refuse to
open such a store too. Processes that have it open already are refused by a trigger, in the note's own words.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from conveyor.model.errors import StoreMovedError

NOTE_NUMBER: Final = 1_000_000


class Passage(StrEnum):
    """What a note says."""

    MOVED = "moved to"
    """Everything is in the other store now."""
    ARRIVING = "arriving from"
    """Everything is here, but the other store was not told yet."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What is written over a store's door. `where` is for people: without credentials."""

    passage: Passage
    where: str
    peer: str = ""
    """The name of the store that it arrives from."""

    @property
    def name(self) -> str:
        return f"{self.passage.value} {self.where}"

    def refusal(self) -> StoreMovedError:
        """What whoever wants to use the store is told."""
        if self.passage is Passage.MOVED:
            return StoreMovedError(f"the store was moved to `{self.where}`", hint="point CONVEYOR_URL there")
        return StoreMovedError(
            f"a move from `{self.where}` into this store has not ended", hint="run the same `conveyor move` once more"
        )


def read_note(name: str, peer: str) -> Note:
    """A note as it lies in `migrations`: the peer in place of a checksum."""
    passage = Passage.ARRIVING if name.startswith(Passage.ARRIVING.value) else Passage.MOVED
    return Note(passage=passage, where=name.removeprefix(passage.value).strip(), peer=peer)
