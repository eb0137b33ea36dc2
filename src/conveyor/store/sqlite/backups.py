"""Backups of stores that are no file: each is a store in an SQLite file, filled row by row."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from conveyor.store.keeping import Portable
from conveyor.store.sqlite.copying import check_copy, make_backup
from conveyor.store.sqlite.keeper import SQLiteKeeper
from conveyor.store.sqlite.restoring import check_backup


class SQLiteBackups:
    """`Backups`."""

    @contextlib.asynccontextmanager
    async def write(self, target: Path, *, is_forced: bool) -> AsyncIterator[Portable]:
        async with make_backup(target, is_forced=is_forced) as partial:
            yield SQLiteKeeper(partial)

    def open(self, source: Path) -> Portable:
        check_backup(source)
        check_copy(source)
        return SQLiteKeeper(source)
