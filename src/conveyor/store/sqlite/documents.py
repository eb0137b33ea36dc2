"""Documents by kind and name, and trails of records, each sealed with the one before it."""

from __future__ import annotations

from conveyor.model.errors import VersionConflictError
from conveyor.store.documents import check_document, record_name
from conveyor.store.protocol import Seal
from conveyor.store.records import TRAIL_KIND, Document
from conveyor.store.sqlite.transaction import Row, Transaction


def put_document(tx: Transaction, kind: str, name: str, body: bytes, version: int | None) -> Document:
    check_document(kind, name)
    if version is None:
        found = tx.row("put_document", kind, name, body, tx.now)
    elif version == 0:
        found = tx.row("add_document", kind, name, body, tx.now)
    else:
        found = tx.row("replace_document", body, tx.now, kind, name, version)
    if found is None:
        raise VersionConflictError(kind, name)
    return _document(found)


def get_document(tx: Transaction, kind: str, name: str) -> Document | None:
    found = tx.row("get_document", kind, name)
    return None if found is None else _document(found)


def delete_document(tx: Transaction, kind: str, name: str, version: int | None) -> bool:
    if tx.row("delete_document", kind, name, version) is not None:
        return True
    if version is not None and tx.row("get_document", kind, name) is not None:
        raise VersionConflictError(kind, name)
    return False


def list_documents(tx: Transaction, kind: str, prefix: str, limit: int, after: str | None) -> list[Document]:
    return [_document(row) for row in tx.rows("list_documents", kind, after or "", prefix, limit)]


def append_record(tx: Transaction, trail: str, body: bytes, seal: Seal) -> Document:
    check_document(TRAIL_KIND, trail)
    head = tx.row("get_document", TRAIL_KIND, trail)
    sealed = seal(b"" if head is None else head[2], body)
    number = put_document(tx, TRAIL_KIND, trail, sealed, None).version
    return put_document(tx, trail, record_name(number), sealed, 0)


def _document(row: Row) -> Document:
    kind, name, body, version, created_at, modified_at = row
    return Document(kind=kind, name=name, body=body, version=version, created_at=created_at, modified_at=modified_at)
