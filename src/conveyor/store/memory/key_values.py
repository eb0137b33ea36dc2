"""Named values in memory."""

from __future__ import annotations

from conveyor.store.memory.floor import Floor
from conveyor.store.memory.witnessed import changes
from conveyor.store.records import KeyInfo, KeyValue


class KeyValues(Floor):
    """`KeyValueStore`."""

    async def kv_get(self, namespace: str, key: str) -> KeyValue | None:
        entry = self._tables.entries.get((namespace, key))
        return entry if entry is not None and self._lives(entry) else None

    @changes("kv", lambda namespace, entry: f"{namespace}/{entry.key}")
    async def kv_put(self, namespace: str, entry: KeyValue) -> None:
        self._tables.entries[namespace, entry.key] = entry

    @changes("kv", lambda namespace, key: f"{namespace}/{key}")
    async def kv_delete(self, namespace: str, key: str) -> bool:
        entry = self._tables.entries.pop((namespace, key), None)
        return entry is not None and self._lives(entry)

    async def kv_list(self, namespace: str, *, prefix: str, limit: int, after: str | None) -> list[KeyInfo]:
        found = sorted(
            (
                entry
                for (name, key), entry in self._tables.entries.items()
                if name == namespace and key.startswith(prefix) and self._lives(entry)
            ),
            key=lambda entry: entry.key.encode(),
        )
        later = [entry for entry in found if after is None or entry.key.encode() > after.encode()]
        return [KeyInfo(key=e.key, metadata=e.metadata, expires_at=e.expires_at) for e in later[:limit]]

    def _lives(self, entry: KeyValue) -> bool:
        return entry.expires_at is None or entry.expires_at > self._now()
