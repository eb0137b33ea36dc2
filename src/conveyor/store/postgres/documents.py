"""Documents by kind and name, and trails of records, each sealed with the one before it. No name holds a NUL, and
PostgreSQL refuses to be asked for one."""

from __future__ import annotations

from typing import TypeVar

from conveyor.model.errors import VersionConflictError
from conveyor.store.documents import check_document, record_name
from conveyor.store.postgres.front import Front
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.transaction import Row, Transaction
from conveyor.store.protocol import Seal
from conveyor.store.records import TRAIL_KIND, Document

T = TypeVar("T")


class Documents(Front):
    """`DocumentStore`, as the store's front offers it."""

    async def put_document(self, kind: str, name: str, body: bytes, *, version: int | None = None) -> Document:
        return await self._change(
            "document", f"{kind}/{name}", lambda tx: put_document(tx, kind, name, body, version)
        )

    async def get_document(self, kind: str, name: str) -> Document | None:
        return await self._run(lambda tx: get_document(tx, kind, name), Durability.RELAXED)

    async def delete_document(self, kind: str, name: str, *, version: int | None = None) -> bool:
        return await self._change("document", f"{kind}/{name}", lambda tx: delete_document(tx, kind, name, version))

    async def list_documents(
        self, kind: str, *, prefix: str = "", limit: int, after: str | None = None
    ) -> list[Document]:
        return await self._run(lambda tx: list_documents(tx, kind, prefix, limit, after), Durability.RELAXED)

    async def append_record(self, trail: str, body: bytes, seal: Seal) -> Document:
        return await self._run(lambda tx: append_record(tx, trail, body, seal))


async def put_document(tx: Transaction, kind: str, name: str, body: bytes, version: int | None) -> Document:
    check_document(kind, name)
    if version is None:
        found = await tx.row("put_document", kind, name, body, tx.now)
    elif version == 0:
        found = await tx.row("add_document", kind, name, body, tx.now)
    else:
        found = await tx.row("replace_document", body, tx.now, kind, name, version)
    if found is None:
        raise VersionConflictError(kind, name)
    return _document(found)


async def get_document(tx: Transaction, kind: str, name: str) -> Document | None:
    found = await tx.row("get_document", kind, name) if "\0" not in name else None
    return None if found is None else _document(found)


async def delete_document(tx: Transaction, kind: str, name: str, version: int | None) -> bool:
    if "\0" in name:
        return False
    if await tx.row("delete_document", kind, name, version) is not None:
        return True
    if version is not None and await tx.row("get_document", kind, name) is not None:
        raise VersionConflictError(kind, name)
    return False


async def list_documents(tx: Transaction, kind: str, prefix: str, limit: int, after: str | None) -> list[Document]:
    if "\0" in prefix:
        return []
    follows = (after or "").partition("\0")[0]  # between it and its beginning there is no name
    return [_document(row) for row in await tx.rows("list_documents", kind, follows, prefix, limit)]


async def append_record(tx: Transaction, trail: str, body: bytes, seal: Seal) -> Document:
    check_document(TRAIL_KIND, trail)
    head = await tx.row("lock_trail", TRAIL_KIND, trail, tx.now)
    assert head is not None
    sealed = seal(head[1], body)
    await tx.run("write_trail", sealed, TRAIL_KIND, trail)
    return await put_document(tx, trail, record_name(head[0]), sealed, 0)


def _document(row: Row) -> Document:
    kind, name, body, version, created_at, modified_at = row
    return Document(kind=kind, name=name, body=body, version=version, created_at=created_at, modified_at=modified_at)
