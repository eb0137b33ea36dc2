"""Which databases there are. A document of the store says so; a file's name is made here, and is never a name given."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from conveyor.databases import engine
from conveyor.databases.engine import Result, Statement
from conveyor.model.errors import ConflictError, NotFoundError, VersionConflictError
from conveyor.model.settings import check_name
from conveyor.store.protocol import Store
from conveyor.store.records import Document

DATABASES: Final = "database"
"""The kind of documents that databases are, by name."""
PAGE: Final = 1_000


class _Record(msgspec.Struct, frozen=True):
    uuid: str


class DatabaseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A database; `size` in bytes."""

    uuid: str
    name: str
    created_at: int
    size: int
    tables: int | None = None


class Databases:
    """All of a store. `folder` is where files are kept: below `databases`."""

    def __init__(self, store: Store, folder: Callable[[], Path], declared: Iterable[tuple[str, str]] = ()) -> None:
        """`declared` are the ids and names that a wrangler file gives. Each is made when somebody first asks for it,
        and its id there, which may be that of a database at Cloudflare's, is good here too."""
        self._store = store
        self._folder = folder
        self._declared = list(declared)

    async def create(self, name: str) -> DatabaseInfo:
        """`ConflictError`, `InvalidSettingError`."""
        check_name("database", name)
        record = _Record(str(uuid.UUID(bytes=os.urandom(16), version=4)))
        path = self._path(record.uuid)
        await asyncio.to_thread(engine.make, path)
        try:
            document = await self._store.put_document(DATABASES, name, msgspec.json.encode(record), version=0)
        except BaseException as error:
            await asyncio.to_thread(_remove, path)
            if isinstance(error, VersionConflictError):
                raise ConflictError(f"database `{name}` exists already", hint="choose another name") from error
            raise
        return await self._info(document)

    async def list_all(self, *, part: str = "") -> list[DatabaseInfo]:
        """All whose names hold `part`, by name."""
        return [await self._info(each) for each in await self._documents() if part in each.name]

    async def get(self, id_or_name: str, *, tables: bool = False) -> DatabaseInfo:
        """`NotFoundError`."""
        info = await self._info(await self._find(id_or_name))
        if not tables:
            return info
        count = await asyncio.to_thread(engine.count_tables, self._path(info.uuid))
        return msgspec.structs.replace(info, tables=count)

    async def delete(self, id_or_name: str) -> None:
        """Its file goes with it. `NotFoundError`."""
        found = await self._find(id_or_name)
        await self._store.delete_document(DATABASES, found.name)
        await asyncio.to_thread(_remove, self._path(_uuid_of(found)))

    async def query(self, id_or_name: str, batch: Sequence[Statement]) -> list[Result]:
        """One result per statement, all or none. `NotFoundError`, `QueryError`, `StoreBusyError`."""
        path = self._path(_uuid_of(await self._find(id_or_name)))
        return await asyncio.to_thread(engine.run, path, batch, self._store.clock.monotonic)

    async def _documents(self) -> list[Document]:
        found: list[Document] = []
        while page := await self._store.list_documents(DATABASES, limit=PAGE, after=found[-1].name if found else None):
            found += page
        return found

    async def _find(self, id_or_name: str) -> Document:
        if _is_name(id_or_name) and (named := await self._store.get_document(DATABASES, id_or_name)) is not None:
            return named
        for each in await self._documents():
            if _uuid_of(each) == id_or_name:
                return each
        for number, name in self._declared:
            if id_or_name in (number, name):
                with contextlib.suppress(ConflictError):
                    await self.create(name)
                return await self._find_named(name)
        raise NotFoundError(f"no database has the id or name `{id_or_name[:64]}`", hint="see `wrangler d1 list`")

    async def _find_named(self, name: str) -> Document:
        found = await self._store.get_document(DATABASES, name)
        if found is None:
            raise NotFoundError(f"database `{name}` was deleted just now", hint="try again")
        return found

    async def _info(self, document: Document) -> DatabaseInfo:
        number = _uuid_of(document)
        size = await asyncio.to_thread(_size_of, self._path(number))
        return DatabaseInfo(uuid=number, name=document.name, created_at=document.created_at, size=size)

    def _path(self, number: str) -> Path:
        return self._folder() / "databases" / f"{number}.sqlite"


def _uuid_of(document: Document) -> str:
    return msgspec.json.decode(document.body, type=_Record).uuid


def _is_name(text: str) -> bool:
    return 0 < len(text) <= 63 and "\0" not in text and text.isascii()


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
