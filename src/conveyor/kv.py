"""Named values with an end, in namespaces: `app.kv("CACHE")`. Limits and words are those of Cloudflare's KV."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, overload

import msgspec

from conveyor.model.duration import DAY_MS, Duration, read_duration_ms
from conveyor.model.errors import BodyDecodeError, InvalidKeyError, InvalidMessageError
from conveyor.queue.encoding import encode_json
from conveyor.store.protocol import Store
from conveyor.store.records import KeyValue

T = TypeVar("T")

KEY_BYTES_MAX: Final = 512
VALUE_BYTES_MAX: Final = 25 * 1024 * 1024
METADATA_BYTES_MAX: Final = 1_024
TTL_MS_MAX: Final = 3_650 * DAY_MS
LIST_MAX: Final = 1_000
NAMESPACES: Final = "kv_namespace"
"""The kind of documents that give a namespace, under its name, an id."""


class KVKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as a listing shows it."""

    name: str
    expires_at: datetime | None
    metadata: Any


class KVPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a listing; `cursor` asks for the next part."""

    keys: list[KVKey]
    list_complete: bool
    cursor: str | None


class KVEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A value with its metadata."""

    value: bytes
    metadata: Any
    expires_at: datetime | None


class KV:
    """One namespace. An expired entry is never returned."""

    def __init__(self, store: Store, ensure_open: Callable[[], Awaitable[None]], namespace: str) -> None:
        self.namespace = namespace
        self._store = store
        self._ensure_open = ensure_open

    async def get(self, key: str) -> str | None:
        """The value as text, or None. `BodyDecodeError` if it is no UTF-8."""
        found = await self.get_entry(key)
        if found is None:
            return None
        try:
            return found.value.decode()
        except UnicodeDecodeError as error:
            raise BodyDecodeError(f"kv:{self.namespace}", "str", str(error)) from error

    async def get_bytes(self, key: str) -> bytes | None:
        """The value as it was put, or None."""
        found = await self.get_entry(key)
        return None if found is None else found.value

    @overload
    async def get_json(self, key: str) -> Any: ...
    @overload
    async def get_json(self, key: str, *, type: type[T]) -> T | None: ...
    async def get_json(self, key: str, *, type: Any = Any) -> Any:
        """The value read as JSON into `type`, or None. `BodyDecodeError` if it does not fit."""
        found = await self.get_entry(key)
        if found is None:
            return None
        try:
            return msgspec.json.decode(found.value, type=type)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BodyDecodeError(f"kv:{self.namespace}", getattr(type, "__name__", str(type)), str(error)) from error

    async def get_entry(self, key: str) -> KVEntry | None:
        """The value with its metadata and its end, or None."""
        _check_key(key)
        await self._ensure_open()
        found = await self._store.kv_get(self.namespace, key)
        if found is None:
            return None
        return KVEntry(value=found.value, metadata=_metadata(found.metadata), expires_at=_moment(found.expires_at))

    async def put(self, key: str, value: str | bytes, *, ttl: Duration | None = None, metadata: object = None) -> None:
        """Store a value; with `ttl` it is gone after that time. `metadata` is small JSON."""
        _check_key(key)
        content = _read_value(key, value)
        if len(content) > VALUE_BYTES_MAX:
            raise InvalidKeyError(f"the value of `{key}` has {len(content):,} bytes, the limit is {VALUE_BYTES_MAX:,}")
        packed = None if metadata is None else _pack(key, metadata)
        if packed is not None and len(packed) > METADATA_BYTES_MAX:
            raise InvalidKeyError(
                f"the metadata of `{key}` has {len(packed):,} bytes, the limit is {METADATA_BYTES_MAX:,}"
            )
        lifetime = None if ttl is None else read_duration_ms(ttl, name="ttl", least_ms=1, most_ms=TTL_MS_MAX)
        await self._ensure_open()
        expires_at = None if lifetime is None else self._store.clock.now_ms() + lifetime
        entry = KeyValue(key=key, value=content, metadata=packed, expires_at=expires_at)
        await self._store.kv_put(self.namespace, entry)

    async def put_json(self, key: str, value: object, *, ttl: Duration | None = None, metadata: object = None) -> None:
        """Store a value as JSON."""
        _check_key(key)
        await self.put(key, _pack(key, value), ttl=ttl, metadata=metadata)

    async def delete(self, key: str) -> bool:
        """Whether it was there."""
        _check_key(key)
        await self._ensure_open()
        return await self._store.kv_delete(self.namespace, key)

    async def list(self, *, prefix: str = "", limit: int = LIST_MAX, cursor: str | None = None) -> KVPage:
        """Keys in the order of their UTF-8 bytes."""
        if not 1 <= limit <= LIST_MAX:
            raise InvalidKeyError(f"`limit` is {limit}: must lie between 1 and {LIST_MAX:,}")
        await self._ensure_open()
        found = await self._store.kv_list(self.namespace, prefix=prefix, limit=limit + 1, after=cursor)
        keys = [
            KVKey(name=each.key, expires_at=_moment(each.expires_at), metadata=_metadata(each.metadata))
            for each in found[:limit]
        ]
        complete = len(found) <= limit
        return KVPage(keys=keys, list_complete=complete, cursor=None if complete else keys[-1].name)


def _check_key(key: str) -> None:
    if not isinstance(key, str) or key in ("", ".", ".."):
        raise InvalidKeyError(f"`{key}` is no key", hint="a key is text, and neither empty nor `.` nor `..`")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidKeyError(
            "a key holds half of a surrogate pair", hint="a key is text that UTF-8 can hold"
        ) from None
    if "\0" in key:
        raise InvalidKeyError("a key holds a NUL", hint="not every store can keep one")
    if size > KEY_BYTES_MAX:
        raise InvalidKeyError(f"a key has {size:,} bytes, the limit is {KEY_BYTES_MAX}")


def _read_value(key: str, value: str | bytes) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, str):
        raise InvalidKeyError(
            f"the value of `{key}` is a `{type(value).__qualname__}`", hint="str, bytes, or `put_json`"
        )
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise InvalidKeyError(f"the value of `{key}` holds half of a surrogate pair") from None


def _pack(key: str, value: object) -> bytes:
    try:
        return encode_json(value)
    except InvalidMessageError as error:
        raise InvalidKeyError(f"what is to be kept under `{key}` has no JSON form", hint=str(error)) from error


def _moment(value_ms: int | None) -> datetime | None:
    return None if value_ms is None else datetime.fromtimestamp(value_ms / 1000, UTC)


def _metadata(packed: bytes | None) -> Any:
    return None if packed is None else msgspec.json.decode(packed)
