"""Where queues live while they are measured: a fresh file, or a fresh database on the bench's own PostgreSQL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

Facts = dict[str, str]


class Place(Protocol):
    """One kind of store."""

    name: str

    def fresh(self, room: Path, *, like: str | None = None) -> str:
        """The URL of an empty store, or of a copy of the one at `like`; gone when the bench ends, or with its room."""

    def drop(self, url: str) -> None:
        """It was measured, and is not wanted any more."""

    def settle(self, url: str, *, analyze: bool) -> None:
        """What filling left to do is done now, not while somebody is measured."""

    def without_statistics(self) -> AbstractContextManager[None]:
        """Meanwhile nobody analyzes a table by himself, however many rows it has got."""

    def has_statistics(self, url: str) -> bool:
        """Whether the planner knows anything of the tables there."""

    def hold_snapshot(self, url: str) -> Holder:
        """A transaction that has read, was given an id, and stays open."""

    def facts(self) -> Facts:
        """Conditions that belong to the store."""


class Holder(Protocol):
    """A transaction held open."""

    def end(self) -> None: ...


class Files:
    """SQLite: each store is a file in a room of its own."""

    name = "sqlite"

    def fresh(self, room: Path, *, like: str | None = None) -> str:
        if like is not None:
            shutil.copytree(_folder(like), room, dirs_exist_ok=True)
        return f"sqlite:///{room / 'queue.db'}"

    def drop(self, url: str) -> None:
        """Its room goes, and it with it."""

    def settle(self, url: str, *, analyze: bool) -> None:
        for path in _folder(url).iterdir():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def without_statistics(self) -> AbstractContextManager[None]:
        """Nobody analyzes a file but its user."""
        return nullcontext()

    def has_statistics(self, url: str) -> bool:
        return False

    def hold_snapshot(self, url: str) -> Holder:
        raise NotImplementedError("a reader of a SQLite file holds up its checkpoints, not its deletes")

    def facts(self) -> Facts:
        return {}


def _folder(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///")).parent


@contextmanager
def store_in(place: Place, room: Path, *, like: str | None = None) -> Iterator[str]:
    """A fresh store for one measurement."""
    url = place.fresh(room, like=like)
    try:
        yield url
    finally:
        place.drop(url)
