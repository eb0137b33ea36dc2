"""Documents in memory."""

from __future__ import annotations

from conveyor.model.errors import VersionConflictError
from conveyor.store.documents import check_document, record_name
from conveyor.store.memory.floor import Floor
from conveyor.store.memory.witnessed import changes
from conveyor.store.protocol import Seal
from conveyor.store.records import TRAIL_KIND, Document


class Documents(Floor):
    """`DocumentStore`."""

    @changes("document", lambda kind, name, *_rest, **_named: f"{kind}/{name}")
    async def put_document(self, kind: str, name: str, body: bytes, *, version: int | None = None) -> Document:
        check_document(kind, name)
        return self._put(kind, name, body, version)

    async def get_document(self, kind: str, name: str) -> Document | None:
        return self._tables.documents.get((kind, name))

    @changes("document", lambda kind, name, *_rest, **_named: f"{kind}/{name}")
    async def delete_document(self, kind: str, name: str, *, version: int | None = None) -> bool:
        found = self._tables.documents.get((kind, name))
        if found is None:
            return False
        if version not in (None, found.version):
            raise VersionConflictError(kind, name)
        del self._tables.documents[kind, name]
        return True

    async def list_documents(
        self, kind: str, *, prefix: str = "", limit: int, after: str | None = None
    ) -> list[Document]:
        found = [each for each in self._tables.documents.values() if each.kind == kind and each.name.startswith(prefix)]
        later = [each for each in found if after is None or each.name.encode() > after.encode()]
        return sorted(later, key=lambda each: each.name.encode())[:limit]

    async def append_record(self, trail: str, body: bytes, seal: Seal) -> Document:
        check_document(TRAIL_KIND, trail)
        head = self._tables.documents.get((TRAIL_KIND, trail))
        sealed = seal(b"" if head is None else head.body, body)
        head = self._put(TRAIL_KIND, trail, sealed, None)
        return self._put(trail, record_name(head.version), sealed, 0)

    def _put(self, kind: str, name: str, body: bytes, version: int | None) -> Document:
        found, now = self._tables.documents.get((kind, name)), self._now()
        if version not in (None, 0 if found is None else found.version):
            raise VersionConflictError(kind, name)
        self._tables.documents[kind, name] = document = Document(
            kind=kind,
            name=name,
            body=body,
            version=1 if found is None else found.version + 1,
            created_at=now if found is None else found.created_at,
            modified_at=now,
        )
        return document
