"""Named values with an end: an expired entry is never read, and the sweep takes it away."""

from __future__ import annotations

from conveyor.store.records import KeyInfo, KeyValue
from conveyor.store.sqlite.transaction import Transaction


def kv_get(tx: Transaction, namespace: str, key: str) -> KeyValue | None:
    found = tx.row("kv_get", namespace, key, tx.now)
    if found is None:
        return None
    return KeyValue(key=found[0], value=found[1], metadata=found[2], expires_at=found[3])


def kv_put(tx: Transaction, namespace: str, entry: KeyValue) -> None:
    tx.run("kv_put", namespace, entry.key, entry.value, entry.metadata, entry.expires_at)


def kv_delete(tx: Transaction, namespace: str, key: str) -> bool:
    found = tx.row("kv_delete", namespace, key)
    return found is not None and (found[0] is None or found[0] > tx.now)


def kv_list(tx: Transaction, namespace: str, prefix: str, limit: int, after: str | None) -> list[KeyInfo]:
    found = tx.rows("kv_list", namespace, after or "", prefix, tx.now, limit)
    return [KeyInfo(key=key, metadata=metadata, expires_at=expires_at) for key, metadata, expires_at in found]
