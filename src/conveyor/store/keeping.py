"""What a database offers those who look after it: to be examined, copied, put back, migrated and moved.

Beside `Store`, since none of this needs a store that is open, and some of it must not have one.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from conveyor.store.carrying import Progress
from conveyor.store.facts import Facts
from conveyor.store.migrate import Migration, SchemaState
from conveyor.store.note import Note
from conveyor.store.portable import Incoming, Outgoing

__all__ = ["Copied", "Identity", "Keeper", "Portable", "Progress"]


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup or a restore came to."""

    path: str
    copied_bytes: int
    kept: str | None = None
    """Where what a restore replaced lies now: a file, a schema."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Which store it is, as far as there is one."""

    id: str | None = None
    note: Note | None = None


class Portable(Protocol):
    """A store whose rows come out and go in. A context that ends in an error, or in a kill, has changed nothing."""

    @property
    def where(self) -> str:
        """The store, for people."""
        ...

    @property
    def address(self) -> str:
        """The URL that leads there from any folder, without credentials."""
        ...

    async def identify(self) -> Identity: ...

    def read(self) -> AbstractAsyncContextManager[Outgoing]:
        """One moment of it, beside those who write."""
        ...

    def hold(self) -> AbstractAsyncContextManager[Outgoing]:
        """Nobody else writes until the end. `StoreInUseError` while a worker lives."""
        ...

    def fill(self, *, resumes: str | None = None) -> AbstractAsyncContextManager[Incoming]:
        """Made if need be. `ConflictError` unless it is empty; what a move from the store `resumes` has left is begun
        anew."""
        ...

    async def reopen(self) -> None:
        """A move has ended: take its note away."""
        ...


class Keeper(Portable, Protocol):
    """Looks after one store. Every method of its own blocks until it is done."""

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


class Backups(Protocol):
    """The form of all backups, whatever the store is: a store in an SQLite file. Handed to a keeper whose store is no
    file."""

    def write(self, target: Path, *, is_forced: bool) -> AbstractAsyncContextManager[Portable]:
        """An empty store to be filled; `target` appears at the end, whole, checked and on disk, or not at all."""
        ...

    def open(self, source: Path) -> Portable:
        """One that was made before, sound and of this release. A `StoreError`."""
        ...
