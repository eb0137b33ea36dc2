"""`Bucket`: what an app does with objects, wherever they lie. It checks what is asked, and hands on what can be."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
)
from pathlib import Path
from typing import Final, TypeAlias

from conveyor.blobs.model import (
    CHUNK_BYTES,
    CONTENT_TYPE,
    DELETE_MAX,
    LIST_MAX,
    OBJECT_BYTES_MAX,
    Backend,
    Blob,
    BlobInfo,
    BlobPage,
    BlobStream,
    Draft,
    Wanted,
    check_content_type,
    check_key,
    read_metadata,
)
from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import InvalidKeyError, InvalidSettingError, NotFoundError

LINK_MS_MAX: Final = 7 * 86_400_000
"""How long a link may be good: S3's limit."""
_HEADS_AT_ONCE: Final = 16

Content: TypeAlias = bytes | str | Path | AsyncIterable[bytes]
"""A `Path` is a file whose bytes are read; text is UTF-8."""


class Bucket:
    """One bucket. On local files it is made by its first put, if need be."""

    def __init__(self, backend: Backend, ensure_open: Callable[[], Awaitable[None]], name: str) -> None:
        self.name = name
        self._backend = backend
        self._ensure_open = ensure_open

    async def put(
        self,
        key: str,
        content: Content,
        *,
        content_type: str = CONTENT_TYPE,
        metadata: Mapping[str, str] | None = None,
        size_max: int = OBJECT_BYTES_MAX,
        sha256: str | None = None,
        md5: str | None = None,
    ) -> BlobInfo:
        """Store an object in place of the one before: all of it, or nothing and the one before stays. `metadata` is
        small text under lower-case names; `sha256` and `md5`, in hex, are what the bytes must be. `InvalidKeyError`,
        `BodyTooLargeError`, `BlobChecksumError`."""
        check_key(key)
        check_content_type(key, content_type)
        draft = Draft(
            key=key, content_type=content_type, metadata=read_metadata(key, metadata), size_max=size_max,
            sha256=_read_digest("sha256", sha256, 64), md5=_read_digest("md5", md5, 32),
        )  # fmt: skip
        await self._ensure_open()
        async with contextlib.aclosing(_chunks_of(content)) as chunks:
            return await self._backend.put(draft, chunks)

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Blob | None:
        """The object with its bytes in memory, or None; `open` and `chunks` read large ones piece by piece. A negative
        `offset` counts from the end. `BlobRangeError` where it begins behind the end."""
        stream = await self.open(key, offset=offset, length=length)
        if stream is None:
            return None
        async with stream:
            return Blob(info=stream.info, body=b"".join([piece async for piece in stream]))

    async def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BlobStream | None:
        """The object as it is now and a stream of its bytes, also while somebody replaces or deletes it; or None.
        `BlobRangeError`."""
        check_key(key)
        wanted = Wanted(offset, length)
        wanted.check()
        await self._ensure_open()
        return await self._backend.open(key, wanted)

    async def chunks(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of an object that must be there. `NotFoundError`, `BlobRangeError`."""
        stream = await self.open(key, offset=offset, length=length)
        if stream is None:
            raise self._missing(key)
        async with stream:
            async for piece in stream:
                yield piece

    async def head(self, key: str) -> BlobInfo | None:
        """What is known of the object, or None."""
        check_key(key)
        await self._ensure_open()
        return await self._backend.head(key)

    async def copy(self, source: str, target: str) -> BlobInfo:
        """The same bytes, type and metadata under another key of this bucket. `NotFoundError`."""
        check_key(source)
        check_key(target)
        await self._ensure_open()
        same = source == target
        info = await (self._backend.head(source) if same else self._backend.copy(source, target))
        if info is None:
            raise self._missing(source)
        return info

    async def delete(self, key: str) -> bool:
        """Whether it was there."""
        check_key(key)
        await self._ensure_open()
        return await self._backend.delete(key)

    async def delete_many(self, keys: Collection[str]) -> None:
        """Up to 1,000; those that are not there do not matter. Should it fail, some may be gone. `InvalidKeyError`."""
        if isinstance(keys, str):
            raise InvalidKeyError("`delete_many` takes several keys, and one text is one key", hint="use `delete`")
        if len(keys) > DELETE_MAX:
            raise InvalidKeyError(f"{len(keys):,} keys to delete, the limit is {DELETE_MAX:,}", hint="delete in parts")
        for key in keys:
            check_key(key)
        await self._ensure_open()
        await self._backend.delete_many(list(keys))

    async def list(
        self, *, prefix: str = "", limit: int = LIST_MAX, cursor: str | None = None, details: bool = False
    ) -> BlobPage:
        """Objects in the order of their keys' UTF-8 bytes. On S3 a listing knows neither content types nor metadata;
        `details` asks for each of them, one request an object."""
        if not 1 <= limit <= LIST_MAX:
            raise InvalidKeyError(f"`limit` is {limit}: must lie between 1 and {LIST_MAX:,}")
        for part in (prefix, cursor):
            if part:
                check_key(part)
        await self._ensure_open()
        found = await self._backend.find(prefix, limit + 1, cursor or None)
        complete = len(found) <= limit
        last = None if complete else found[limit - 1].key
        objects = found[:limit]
        if details:
            objects = await _look_closer(self._backend, objects)
        return BlobPage(objects=objects, list_complete=complete, cursor=last)

    async def sign_get(self, key: str, *, expires_in: Duration = "1h") -> str:
        """A URL under which anybody may read this object until then, at most 7 days. On S3 it is a presigned one; for
        local files `conveyor serve` answers it, and without `CONVEYOR_PUBLIC_URL` it begins with its path."""
        return await self._sign("GET", key, expires_in, None)

    async def sign_put(self, key: str, *, expires_in: Duration = "1h", size_max: int | None = None) -> str:
        """A URL to which anybody may PUT this object's bytes until then, again too. `size_max` bounds them on local
        files; S3 has no such bound, and it is an `InvalidSettingError` there."""
        return await self._sign("PUT", key, expires_in, size_max)

    async def _sign(self, method: str, key: str, expires_in: Duration, size_max: int | None) -> str:
        check_key(key)
        life_ms = read_duration_ms(expires_in, name="expires_in", least_ms=1_000, most_ms=LINK_MS_MAX)
        if size_max is not None and size_max < 0:
            raise InvalidSettingError("size_max", size_max, "is below 0")
        await self._ensure_open()
        return await self._backend.sign(method, key, life_ms, size_max)

    def _missing(self, key: str) -> NotFoundError:
        return NotFoundError(f"bucket `{self.name}` has no object `{key}`", hint="ask with `head`")


async def _look_closer(backend: Backend, objects: list[BlobInfo]) -> list[BlobInfo]:
    """Those that went meanwhile are left out."""
    gate = asyncio.Semaphore(_HEADS_AT_ONCE)

    async def look(info: BlobInfo) -> BlobInfo | None:
        if info.content_type:
            return info
        async with gate:
            return await backend.head(info.key)

    return [each for each in await asyncio.gather(*map(look, objects)) if each is not None]


def _read_digest(name: str, text: str | None, size: int) -> str | None:
    if text is None:
        return None
    if re.fullmatch(rf"[0-9a-fA-F]{{{size}}}", text) is None:
        raise InvalidKeyError(f"`{name}` is no digest: {size} hex digits")
    return text.lower()


async def _chunks_of(content: Content) -> AsyncGenerator[bytes, None]:
    if isinstance(content, Path):
        file = await asyncio.to_thread(content.open, "rb")
        with file:
            while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield piece
        return
    if isinstance(content, str):
        content = content.encode()
    if isinstance(content, (bytes, bytearray, memoryview)):
        for chunk in _pieces(bytes(content)):
            yield chunk
        return
    async for chunk in content:
        yield chunk


def _pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 16 * CHUNK_BYTES):
        yield content[start : start + 16 * CHUNK_BYTES]
