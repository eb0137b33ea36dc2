"""What a database offers those who look after it: to be examined, copied, put back and migrated.

Beside `Store`, since none of this needs a store that is open, and some of it must not have one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

from conveyor.store.facts import Facts
from conveyor.store.migrate import Migration, SchemaState

Progress: TypeAlias = Callable[[int, int], None]
"""Told (done, total), in units of the database's own."""


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup or a restore came to."""

    path: str
    copied_bytes: int
    kept: str | None = None
    """Where the file that a restore replaced lies now."""


class Keeper(Protocol):
    """Looks after one store. Every method blocks until it is done."""

    @property
    def where(self) -> str:
        """The store, for people."""
        ...

    def examine(self, *, is_thorough: bool = False) -> Facts:
        """Only looks: changes nothing, makes nothing, and never raises for what it finds."""
        ...

    def back_up(self, target: Path, *, is_forced: bool = False, progress: Progress) -> Copied:
        """A consistent copy, while others work. `target` appears whole or not at all; one that is there already is
        replaced only by force (`ConflictError`)."""
        ...

    def restore(self, source: Path, *, is_forced: bool = False, progress: Progress) -> Copied:
        """Put a backup into the store's place, and keep what was there. `StoreInUseError` while anybody uses it."""
        ...

    def read_schema(self) -> SchemaState: ...

    def migrate(self) -> list[Migration]:
        """Run what is due, and say what that was; the store is made if need be."""
        ...
