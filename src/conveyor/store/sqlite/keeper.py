"""Who looks after one SQLite file: what it does stands in the rooms of its name."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import apsw

from conveyor.store.facts import Facts
from conveyor.store.keeping import Copied, Identity, Progress
from conveyor.store.migrate import Migration, SchemaState, compare_schema
from conveyor.store.portable import Incoming, Outgoing
from conveyor.store.sqlite.checkup import examine_file
from conveyor.store.sqlite.connection import look_into, translate
from conveyor.store.sqlite.copying import back_up_file
from conveyor.store.sqlite.opening import check_place, migrate_file, read_applied
from conveyor.store.sqlite.portable import fill_file, hold_file, read_file, read_file_identity, reopen_file
from conveyor.store.sqlite.restoring import restore_file


class SQLiteKeeper:
    """`Keeper` of one file."""

    def __init__(self, path: str | Path) -> None:
        self._given = Path(path)
        self._path = self._given.resolve() if self._given.is_symlink() else self._given  # its WAL lies beside the file

    @property
    def where(self) -> str:
        return str(self._given)

    @property
    def address(self) -> str:
        return f"sqlite:///{self._path.absolute()}"

    def examine(self, *, is_thorough: bool = False) -> Facts:
        return examine_file(self._path, is_thorough=is_thorough)

    def back_up(self, target: Path, *, is_forced: bool = False, progress: Progress) -> Copied:
        return back_up_file(self._path, target, is_forced=is_forced, progress=progress)

    def restore(self, source: Path, *, is_forced: bool = False, progress: Progress) -> Copied:
        return restore_file(source, self._path, is_forced=is_forced, progress=progress)

    def read_schema(self) -> SchemaState:
        try:
            connection = look_into(self._path)
            try:
                return compare_schema("sqlite", read_applied(connection))
            finally:
                connection.close()
        except apsw.Error as error:
            raise translate(error, self._path) from error

    def migrate(self) -> list[Migration]:
        return migrate_file(self._path)

    async def identify(self) -> Identity:
        store_id, note = read_file_identity(self._path)
        return Identity(id=store_id, note=note)

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Outgoing]:
        with read_file(self._path) as outgoing:
            yield outgoing

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[Outgoing]:
        with hold_file(self._path) as outgoing:
            yield outgoing

    @contextlib.asynccontextmanager
    async def fill(self, *, resumes: str | None = None) -> AsyncIterator[Incoming]:
        check_place(self._path)
        with fill_file(self._path, resumes=resumes) as incoming:
            yield incoming

    async def reopen(self) -> None:
        reopen_file(self._path)
