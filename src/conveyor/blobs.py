"""Objects in buckets: `app.bucket("UPLOADS")`. Words and limits are those of Cloudflare's R2.

A store's document says what an object is; its bytes lie in a file whose name is made here, so that no key ever becomes
a path. Bytes are on the disk before the document names them, and an object changes from one moment to the next, whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import msgspec

from conveyor.model.errors import BodyTooLargeError, ConflictError, InvalidKeyError, NotFoundError, VersionConflictError
from conveyor.store.chosen import make_folder
from conveyor.store.protocol import DocumentStore, Store
from conveyor.store.records import Document

KEY_BYTES_MAX: Final = 1_024
METADATA_BYTES_MAX: Final = 2_048
OBJECT_BYTES_MAX: Final = 5_000_000_000
LIST_MAX: Final = 1_000
CHUNK_BYTES: Final = 1 << 18
BUCKETS: Final = "bucket"
"""The kind of documents that buckets are; objects are of the kind `object:BUCKET`."""

Content: TypeAlias = bytes | str | AsyncIterable[bytes]


class BlobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an object without its bytes."""

    key: str
    size: int
    etag: str
    """MD5 of the bytes, in hex."""
    sha256: str
    content_type: str
    metadata: dict[str, str]
    uploaded: datetime
    version: str
    """Another one with every put."""


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """An object with its bytes."""

    info: BlobInfo
    body: bytes


class BlobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a listing; `cursor` asks for the next part."""

    objects: list[BlobInfo]
    list_complete: bool
    cursor: str | None


class Bucket:
    """One bucket. It is made by its first put, if need be."""

    def __init__(
        self, store: Store, ensure_open: Callable[[], Awaitable[None]], folder: Callable[[], Path], name: str
    ) -> None:
        """`folder` is where files are kept: of all buckets, below `buckets`."""
        self.name = name
        self._store = store
        self._ensure_open = ensure_open
        self._folder = folder
        self._kind = f"object:{name}"

    async def put(
        self,
        key: str,
        content: Content,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        size_max: int = OBJECT_BYTES_MAX,
    ) -> BlobInfo:
        """Store an object in place of the one before. `metadata` is small and text. `InvalidKeyError`,
        `BodyTooLargeError`."""
        _check_key(key)
        facts = _read_metadata(key, content_type, metadata)
        await self._ensure_open()
        await make_bucket(self._store, self.name, exist_ok=True)
        written = await asyncio.to_thread(_Written, self._folder() / "buckets")
        try:
            async for chunk in _chunks_of(content):
                if written.size + len(chunk) > size_max:
                    raise BodyTooLargeError(f"object `{key}`", written.size + len(chunk), size_max)
                await asyncio.to_thread(written.write, chunk)
            await asyncio.to_thread(written.keep)
            info = BlobInfo(
                key=key, size=written.size, etag=written.md5.hexdigest(), sha256=written.sha256.hexdigest(),
                content_type=content_type, metadata=facts, version=written.name,
                uploaded=datetime.fromtimestamp(self._store.clock.now_ms() / 1000, UTC),
            )  # fmt: skip
            replaced = await self._name(info)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(written.drop))
            raise
        if replaced is not None:
            await asyncio.to_thread(_unlink, self._path(replaced))
        return info

    async def _name(self, info: BlobInfo) -> BlobInfo | None:
        """Let the document name the new file; the object that it named before. Of several puts at once one is the last,
        and each of the others' files is dropped by the one that came after it."""
        body = msgspec.json.encode(info)
        while True:
            before = await self._store.get_document(self._kind, info.key)
            with contextlib.suppress(VersionConflictError):
                version = 0 if before is None else before.version
                await self._store.put_document(self._kind, info.key, body, version=version)
                return None if before is None else _info(before)

    async def get(self, key: str) -> Blob | None:
        """The object with all of its bytes, or None; `chunks` reads large ones piece by piece."""
        while (info := await self.head(key)) is not None:
            with contextlib.suppress(FileNotFoundError):
                return Blob(info=info, body=await asyncio.to_thread(self._path(info).read_bytes))
            await self._check_replaced(info)
        return None

    async def chunks(self, key: str) -> AsyncIterator[bytes]:
        """The object's bytes, piece by piece, also while somebody replaces it. `NotFoundError`."""
        while True:
            info = await self.head(key)
            if info is None:
                raise NotFoundError(f"bucket `{self.name}` has no object `{key}`", hint="ask with `head`")
            with contextlib.suppress(FileNotFoundError):
                file = await asyncio.to_thread(self._path(info).open, "rb")
                break
            await self._check_replaced(info)
        with file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk

    async def _check_replaced(self, info: BlobInfo) -> None:
        """A file may go between the look at its document and the look at it, but not while the document names it."""
        if await self.head(info.key) == info:
            raise NotFoundError(
                f"the bytes of `{info.key}` in bucket `{self.name}` are not in `{self._folder()}`",
                hint="all processes need the same folder: set CONVEYOR_FILES",
            )

    async def head(self, key: str) -> BlobInfo | None:
        """What is known of the object, or None."""
        _check_key(key)
        await self._ensure_open()
        found = await self._store.get_document(self._kind, key)
        return None if found is None else _info(found)

    async def delete(self, key: str) -> bool:
        """Whether it was there."""
        _check_key(key)
        await self._ensure_open()
        while (found := await self._store.get_document(self._kind, key)) is not None:
            with contextlib.suppress(VersionConflictError):
                if await self._store.delete_document(self._kind, key, version=found.version):
                    await asyncio.to_thread(_unlink, self._path(_info(found)))
                    return True
        return False

    async def list(self, *, prefix: str = "", limit: int = LIST_MAX, cursor: str | None = None) -> BlobPage:
        """Objects in the order of their keys' UTF-8 bytes."""
        if not 1 <= limit <= LIST_MAX:
            raise InvalidKeyError(f"`limit` is {limit}: must lie between 1 and {LIST_MAX:,}")
        for part in (prefix, cursor):
            if part:
                _check_key(part)
        await self._ensure_open()
        found = await self._store.list_documents(self._kind, prefix=prefix, limit=limit + 1, after=cursor)
        complete = len(found) <= limit
        objects = [_info(each) for each in found[:limit]]
        return BlobPage(objects=objects, list_complete=complete, cursor=None if complete else objects[-1].key)

    def _path(self, info: BlobInfo) -> Path:
        return _place(self._folder() / "buckets", info.version)


async def make_bucket(store: DocumentStore, name: str, *, exist_ok: bool = False) -> Document:
    """`ConflictError` if there is one of this name."""
    found = await store.get_document(BUCKETS, name)
    if found is None:
        try:
            return await store.put_document(BUCKETS, name, b"{}", version=0)
        except VersionConflictError:
            found = await store.get_document(BUCKETS, name)
    if found is None or not exist_ok:
        raise ConflictError(f"bucket `{name}` exists already", hint="choose another name")
    return found


async def delete_bucket(store: DocumentStore, name: str) -> bool:
    """Whether it was there. `ConflictError` while it holds objects."""
    if await store.list_documents(f"object:{name}", limit=1):
        raise ConflictError(f"bucket `{name}` is not empty", hint="delete its objects first")
    return await store.delete_document(BUCKETS, name)


class _Written:
    """A file on its way: hidden from everybody until it is kept."""

    def __init__(self, folder: Path) -> None:
        self.name = secrets.token_hex(16)
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha256 = hashlib.sha256()
        self._path = _place(folder, self.name)
        make_folder(self._path.parent)
        self._file: BinaryIO = self._path.with_suffix(".part").open("xb")

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self.md5.update(chunk)
        self.sha256.update(chunk)
        self.size += len(chunk)

    def keep(self) -> None:
        """From now on it outlives a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.with_suffix(".part").replace(self._path)
        for folder in (self._path.parent, self._path.parent.parent):
            _sync_folder(folder)

    def drop(self) -> None:
        self._file.close()
        _unlink(self._path.with_suffix(".part"))
        _unlink(self._path)


def _place(folder: Path, name: str) -> Path:
    return folder / name[:2] / name


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # has no such thing
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _chunks_of(content: Content) -> AsyncIterator[bytes]:
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


def _info(document: Document) -> BlobInfo:
    return msgspec.json.decode(document.body, type=BlobInfo)


def _check_key(key: str) -> None:
    try:
        size = len(key.encode()) if isinstance(key, str) else 0
    except UnicodeEncodeError:
        raise InvalidKeyError("a key holds half of a surrogate pair") from None
    if not 1 <= size <= KEY_BYTES_MAX or "\0" in key:
        raise InvalidKeyError(f"a key has 1 to {KEY_BYTES_MAX:,} bytes of UTF-8, and no NUL")


def _read_metadata(key: str, content_type: str, metadata: Mapping[str, str] | None) -> dict[str, str]:
    facts = dict(metadata or {})
    if not all(isinstance(part, str) for pair in facts.items() for part in pair):
        raise InvalidKeyError(f"the metadata of `{key}` are not all text")
    try:
        size = len(content_type.encode()) + sum(
            len(name.encode()) + len(value.encode()) for name, value in facts.items()
        )
    except UnicodeEncodeError:
        raise InvalidKeyError(f"the metadata of `{key}` hold half of a surrogate pair") from None
    if size > METADATA_BYTES_MAX:
        raise InvalidKeyError(f"the metadata of `{key}` have {size:,} bytes, the limit is {METADATA_BYTES_MAX:,}")
    if not content_type.isprintable():
        raise InvalidKeyError(f"the content type of `{key}` holds control characters")
    return facts
