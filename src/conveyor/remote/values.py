"""Named values over another conveyor's own API."""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Final
from urllib.parse import quote

import msgspec

from conveyor.model.clock import Clock
from conveyor.model.errors import NotFoundError
from conveyor.remote.client import Client
from conveyor.remote.wire import Page, read_moment
from conveyor.store.records import KeyInfo, KeyValue

PAGE_ROWS: Final = 100
_NULL: Final = msgspec.Raw(b"null")


class _Encoding(StrEnum):
    TEXT = "text"
    BASE64 = "base64"


class _Entry(msgspec.Struct, frozen=True):
    """As the API shows one."""

    key: str
    value: str
    encoding: _Encoding
    expires_at: str | None = None
    metadata: msgspec.Raw = _NULL


class _Key(msgspec.Struct, frozen=True):
    """As the API's list shows one."""

    key: str
    expires_at: str | None = None
    metadata: msgspec.Raw = _NULL


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """As the API takes one."""

    value: str
    encoding: _Encoding
    ttl_ms: int | None = None
    metadata: msgspec.Raw = _NULL


class OwnValues:
    """The named values of another conveyor."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def get(self, namespace: str, key: str) -> KeyValue | None:
        try:
            entry: _Entry
            entry, _ = await self._client.call_ours("GET", _path(namespace, key), _Entry)
        except NotFoundError:
            return None
        value = entry.value.encode() if entry.encoding is _Encoding.TEXT else base64.b64decode(entry.value)
        return KeyValue(key=key, value=value, metadata=_metadata(entry.metadata), expires_at=_moment(entry.expires_at))

    async def put(self, namespace: str, entry: KeyValue) -> None:
        """Its end is given as a time to live, so that the clocks need not agree."""
        lives_ms = None if entry.expires_at is None else max(1, entry.expires_at - self._clock.now_ms())
        kept = _Kept(
            value=base64.b64encode(entry.value).decode(),
            encoding=_Encoding.BASE64,
            ttl_ms=lives_ms,
            metadata=_NULL if entry.metadata is None else msgspec.Raw(entry.metadata),
        )
        await self._client.call_ours("PUT", _path(namespace, entry.key), None, body=kept)

    async def delete(self, namespace: str, key: str) -> bool:
        """Whether it was there just before: the API does not tell."""
        was_there = await self.get(namespace, key) is not None
        await self._client.call_ours("DELETE", _path(namespace, key), None)
        return was_there

    async def list(self, namespace: str, prefix: str, limit: int, after: str | None) -> list[KeyInfo]:
        """The first `limit` of them; the API's pages have names of their own, so those up to `after` are read again."""
        found: list[KeyInfo] = []
        path, query = f"/kv/{quote(namespace, safe='')}/keys", {"prefix": prefix}
        while len(found) < limit:
            query["limit"] = str(min(PAGE_ROWS, limit - len(found)))
            page: Page[_Key]
            page, _ = await self._client.call_ours("GET", path, Page[_Key], query=query)
            found += [
                KeyInfo(key=each.key, metadata=_metadata(each.metadata), expires_at=_moment(each.expires_at))
                for each in page.items
                if after is None or each.key.encode() > after.encode()
            ]
            if page.next_cursor is None:
                break
            query["cursor"] = page.next_cursor
        return found


def _path(namespace: str, key: str) -> str:
    return f"/kv/{quote(namespace, safe='')}/values/{quote(key, safe='')}"


def _metadata(raw: msgspec.Raw) -> bytes | None:
    return None if bytes(raw) == b"null" else bytes(raw)


def _moment(text: str | None) -> int | None:
    return None if text is None else read_moment(text)
