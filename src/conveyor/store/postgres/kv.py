"""Named values with an end: an expired entry is never read, and the sweep takes it away."""

from __future__ import annotations

from typing import TypeVar

from conveyor.store.postgres.front import Front
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.records import KeyInfo, KeyValue

T = TypeVar("T")


class KeyValues(Front):
    """`KeyValueStore`, as the store's front offers it."""

    async def kv_get(self, namespace: str, key: str) -> KeyValue | None:
        return await self._run(lambda tx: kv_get(tx, namespace, key), Durability.RELAXED)

    async def kv_put(self, namespace: str, entry: KeyValue) -> None:
        await self._change("kv", f"{namespace}/{entry.key}", lambda tx: kv_put(tx, namespace, entry))

    async def kv_delete(self, namespace: str, key: str) -> bool:
        return await self._change("kv", f"{namespace}/{key}", lambda tx: kv_delete(tx, namespace, key))

    async def kv_list(self, namespace: str, *, prefix: str, limit: int, after: str | None) -> list[KeyInfo]:
        return await self._run(lambda tx: kv_list(tx, namespace, prefix, limit, after), Durability.RELAXED)


async def kv_get(tx: Transaction, namespace: str, key: str) -> KeyValue | None:
    found = await tx.row("kv_get", namespace, key.encode(), tx.now)
    if found is None:
        return None
    return KeyValue(key=key, value=found[1], metadata=found[2], expires_at=found[3])


async def kv_put(tx: Transaction, namespace: str, entry: KeyValue) -> None:
    await tx.run("kv_put", namespace, entry.key.encode(), entry.value, entry.metadata, entry.expires_at)


async def kv_delete(tx: Transaction, namespace: str, key: str) -> bool:
    found = await tx.row("kv_delete", namespace, key.encode())
    return found is not None and (found[0] is None or found[0] > tx.now)


async def kv_list(tx: Transaction, namespace: str, prefix: str, limit: int, after: str | None) -> list[KeyInfo]:
    found = await tx.rows("kv_list", namespace, (after or "").encode(), prefix.encode(), tx.now, limit)
    return [KeyInfo(key=key.decode(), metadata=metadata, expires_at=expires_at) for key, metadata, expires_at in found]
