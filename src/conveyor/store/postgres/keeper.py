"""Who looks after one schema of a PostgreSQL database: what it does stands in the rooms of its name.

A backup is a store in an SQLite file, filled from one snapshot. A restore fills the schema in one transaction; what was
there is set aside in a schema beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from conveyor.model.clock import SystemClock
from conveyor.store.carrying import carry
from conveyor.store.facts import Facts
from conveyor.store.keeping import Backups, Copied, Identity, Progress
from conveyor.store.migrate import Migration, SchemaState, compare_schema
from conveyor.store.portable import Incoming, Outgoing
from conveyor.store.postgres.checkup import examine_schema
from conveyor.store.postgres.migrating import look_applied, migrate
from conveyor.store.postgres.opening import DEFAULT_SCHEMA, Address, read_address
from conveyor.store.postgres.portable import (
    fill_schema,
    hold_schema,
    identify_schema,
    read_schema_rows,
    reopen_schema,
    replace_schema,
)
from conveyor.store.postgres.visiting import visit

_STAMP: Final = "%Y%m%d%H%M%S"
"""With `_before_` 22 signs: a name has 63, and a schema of ours 40."""


class PostgresKeeper:
    """`Keeper` of one schema."""

    def __init__(self, url: str, backups: Backups) -> None:
        self._address: Address = read_address(url)
        self._backups = backups
        self._clock = SystemClock()

    @property
    def where(self) -> str:
        schema = self._address.schema
        return self._address.where + ("" if schema == DEFAULT_SCHEMA else f"?schema={schema}")

    @property
    def address(self) -> str:
        return self.where

    def examine(self, *, is_thorough: bool = False) -> Facts:
        return asyncio.run(examine_schema(self._address))

    def back_up(self, target: Path, *, is_forced: bool = False, progress: Progress) -> Copied:
        asyncio.run(self._back_up(target, is_forced=is_forced, progress=progress))
        return Copied(path=str(target), copied_bytes=target.stat().st_size)

    async def _back_up(self, target: Path, *, is_forced: bool, progress: Progress) -> None:
        async with (
            self._backups.write(target, is_forced=is_forced) as file,
            self.read() as outgoing,
            file.fill() as incoming,
        ):
            await carry(outgoing, incoming, str(target), progress)
            await incoming.commit(None)

    def restore(self, source: Path, *, is_forced: bool = False, progress: Progress) -> Copied:
        kept = asyncio.run(self._restore(source, is_forced=is_forced, progress=progress))
        return Copied(path=self.where, copied_bytes=source.stat().st_size, kept=kept)

    async def _restore(self, source: Path, *, is_forced: bool, progress: Progress) -> str | None:
        file = self._backups.open(source)
        stamp = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).strftime(_STAMP)
        aside = f"{self._address.schema}_before_{stamp}"
        replacing = replace_schema(self._address, aside, is_forced=is_forced)
        async with file.read() as outgoing, replacing as (incoming, had):
            await carry(outgoing, incoming, self.where, progress)
            await incoming.commit(None)
        return aside if had else None

    def read_schema(self) -> SchemaState:
        return asyncio.run(self._read_schema())

    async def _read_schema(self) -> SchemaState:
        async with visit(self._address) as connection, connection.transaction():
            return compare_schema("postgres", await look_applied(connection, self._address.schema))

    def migrate(self) -> list[Migration]:
        return asyncio.run(self._migrate())

    async def _migrate(self) -> list[Migration]:
        async with visit(self._address) as connection:
            return await migrate(connection, self._address)

    async def identify(self) -> Identity:
        return await identify_schema(self._address)

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Outgoing]:
        async with read_schema_rows(self._address) as outgoing:
            yield outgoing

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[Outgoing]:
        async with hold_schema(self._address) as outgoing:
            yield outgoing

    @contextlib.asynccontextmanager
    async def fill(self, *, resumes: str | None = None) -> AsyncIterator[Incoming]:
        async with fill_schema(self._address, resumes=resumes) as incoming:
            yield incoming

    async def reopen(self) -> None:
        await reopen_schema(self._address)
