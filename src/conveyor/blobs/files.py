"""Objects on local files. A store's document says what an object is; its bytes lie in a file whose name is made here,
so that no key ever becomes a path. Bytes are on the disk before the document names them, and an object changes from one
moment to the next, whole. Files never change once a document names them: readers keep theirs, and copies are links."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec.structs import replace

from conveyor.blobs.links import Links
from conveyor.blobs.model import CHUNK_BYTES, BlobInfo, BlobStream, Draft, Span, Wanted
from conveyor.blobs.writing import Sums
from conveyor.model.errors import (
    BodyTooLargeError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    StoreFullError,
    VersionConflictError,
)
from conveyor.store.chosen import make_folder
from conveyor.store.protocol import DocumentStore, Store
from conveyor.store.records import Document

BUCKETS: Final = "bucket"
"""The kind of documents that buckets are; objects are of the kind `object:BUCKET`."""
OPEN: Final = "open"
"""The folder of marks: an empty file for each file of which it is not sure yet that a document names it (`.in`), or
names it no more (`.out`). Who sets one takes that one off: a writer's must not vanish with that of who replaces it."""
_IN: Final = ".in"
_OUT: Final = ".out"
ORPHAN_S: Final = 86_400
"""A mark that is older, with a file that was not written for so long, is of somebody who died."""
SWEEP_MS: Final = 3_600_000
_PAGE: Final = 1_000


class FileBackend:
    """One bucket's objects, as documents of a store and files below `folder`."""

    def __init__(self, store: Store, folder: Callable[[], Path], links: Links, name: str) -> None:
        self._store = store
        self._folder = folder
        self._links = links
        self._name = name
        self._kind = f"object:{name}"
        self._swept_ms: int | None = None

    async def put(self, draft: Draft, chunks: AsyncIterator[bytes]) -> BlobInfo:
        await make_bucket(self._store, self._name, exist_ok=True)
        await self._sweep_now_and_then()
        written = await asyncio.to_thread(_Written, self._place(), draft)
        try:
            async for chunk in chunks:
                if written.sums.size + len(chunk) > draft.size_max:
                    raise BodyTooLargeError(f"object `{draft.key}`", written.sums.size + len(chunk), draft.size_max)
                await asyncio.to_thread(written.write, chunk)
            written.sums.check(draft)
            await asyncio.to_thread(written.keep)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(written.drop))
            raise
        info = BlobInfo(
            key=draft.key, size=written.sums.size, etag=written.sums.md5, sha256=written.sums.sha256,
            content_type=draft.content_type, metadata=draft.metadata, version=written.name, uploaded=self._now(),
        )  # fmt: skip
        return await self._finish(info)

    async def _finish(self, info: BlobInfo) -> BlobInfo:
        """Even if nobody waits for it any more: once the document is on its way, it may name the file."""
        return await asyncio.shield(asyncio.ensure_future(self._name_file(info)))

    async def _name_file(self, info: BlobInfo) -> BlobInfo:
        try:
            replaced = await self._point_to(info)
        except (OutcomeUnknownError, asyncio.CancelledError):
            raise  # the file stays in doubt, and a sweep will see what became of it
        except BaseException:
            await asyncio.to_thread(self._settle, info.version, info.version)
            raise
        await asyncio.to_thread(self._settle, info.version, replaced)
        return info

    async def _point_to(self, info: BlobInfo) -> str | None:
        """Let the document name the new file; the file that it named before. Of several puts at once one is the last,
        and each of the others' files is dropped by the one that came after it."""
        body = msgspec.json.encode(info)
        while True:
            before = await self._store.get_document(self._kind, info.key)
            former = None if before is None else _info(before).version
            await asyncio.to_thread(self._doubt, former)
            with contextlib.suppress(VersionConflictError):
                version = 0 if before is None else before.version
                await self._store.put_document(self._kind, info.key, body, version=version)
                return former
            await asyncio.to_thread(self._forget_doubt, former)

    async def open(self, key: str, wanted: Wanted) -> BlobStream | None:
        while (info := await self.head(key)) is not None:
            with contextlib.suppress(FileNotFoundError):
                span = wanted.within(key, info.size)
                file = await asyncio.to_thread(_open_at, self._path(info.version), span.offset)
                return BlobStream(info, span, _read(file, span), _closer(file))
            await self._check_replaced(info)
        return None

    async def _check_replaced(self, info: BlobInfo) -> None:
        """A file may go between the look at its document and the look at it, but not while the document names it."""
        if await self.head(info.key) == info:
            raise NotFoundError(
                f"the bytes of `{info.key}` in bucket `{self._name}` are not in `{self._folder()}`",
                hint="all processes need the same folder: set CONVEYOR_FILES",
            )

    async def head(self, key: str) -> BlobInfo | None:
        found = await self._store.get_document(self._kind, key)
        return None if found is None else _info(found)

    async def find(self, prefix: str, limit: int, after: str | None) -> list[BlobInfo]:
        found = await self._store.list_documents(self._kind, prefix=prefix, limit=limit, after=after)
        return [_info(each) for each in found]

    async def copy(self, source: str, target: str) -> BlobInfo | None:
        """Another name for the same bytes, where the file system has such: no byte is moved."""
        while (info := await self.head(source)) is not None:
            fresh = replace(info, key=target, version=secrets.token_hex(16), uploaded=self._now())
            try:
                await asyncio.to_thread(self._link, info.version, fresh.version)
            except FileNotFoundError:
                await asyncio.to_thread(self._settle, fresh.version, fresh.version)
                await self._check_replaced(info)
                continue
            return await self._finish(fresh)
        return None

    async def delete(self, key: str) -> bool:
        while (found := await self._store.get_document(self._kind, key)) is not None:
            former = _info(found).version
            await asyncio.to_thread(self._doubt, former)
            with contextlib.suppress(VersionConflictError):
                if await self._store.delete_document(self._kind, key, version=found.version):
                    await asyncio.to_thread(self._settle, former, former)
                    return True
            await asyncio.to_thread(self._forget_doubt, former)
        return False

    async def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self.delete(key)

    async def sign(self, method: str, key: str, life_ms: int, size_max: int | None) -> str:
        until_ms = self._store.clock.now_ms() + life_ms
        return await asyncio.to_thread(self._links.make, method, self._name, key, until_ms, size_max)

    # Files, on another thread

    def _place(self) -> Path:
        return self._folder() / "buckets"

    def _path(self, version: str) -> Path:
        return _path_of(self._place(), version)

    def _doubt(self, version: str | None) -> None:
        if version is not None:
            _mark(self._place(), version, _OUT)

    def _forget_doubt(self, version: str | None) -> None:
        """Somebody else was first. Who removes the file takes its mark away after it; ours may have come later."""
        if version is not None and not self._path(version).exists():
            _unmark(self._place(), version, _OUT)

    def _settle(self, version: str, gone: str | None) -> None:
        """The document is written: it names `version`, and `gone` no more."""
        if gone is not None:
            _unlink(self._path(gone))
            _unmark(self._place(), gone, _OUT)
        _unmark(self._place(), version, _IN)

    def _link(self, version: str, fresh: str) -> None:
        _mark(self._place(), fresh, _IN)
        source, target = self._path(version), self._path(fresh)
        make_folder(target.parent)
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links, or too many of them
            with source.open("rb") as read, target.open("xb") as write:
                shutil.copyfileobj(read, write, CHUNK_BYTES)
                write.flush()
                os.fsync(write.fileno())
        _sync_folders(target)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._store.clock.now_ms() / 1000, UTC)

    async def _sweep_now_and_then(self) -> None:
        now_ms = self._store.clock.now_ms()
        if self._swept_ms is None or now_ms - self._swept_ms >= SWEEP_MS:
            self._swept_ms = now_ms
            await sweep(self._store, self._place())


async def sweep(store: DocumentStore, place: Path) -> int:
    """Remove what processes that died left below `place`; how many files. It costs what there are of marks, and only
    where somebody died a walk through all documents."""
    doubted = await asyncio.to_thread(_list_orphans, place)
    if not doubted:
        return 0
    named: set[str] = set()
    after: str | None = None
    while buckets := await store.list_documents(BUCKETS, limit=_PAGE, after=after):
        for each in buckets:
            named |= await _find_named(store, f"object:{each.name}", doubted)
        after = buckets[-1].name
    for version in doubted - named:
        await asyncio.to_thread(_unlink, _path_of(place, version))
    for version in doubted:
        for why in (_IN, _OUT):
            await asyncio.to_thread(_unmark, place, version, why)
    return len(doubted - named)


async def _find_named(store: DocumentStore, kind: str, versions: set[str]) -> set[str]:
    found: set[str] = set()
    after: str | None = None
    while page := await store.list_documents(kind, limit=_PAGE, after=after):
        found |= versions.intersection(_info(each).version for each in page)
        after = page[-1].name
    return found


def _list_orphans(place: Path) -> set[str]:
    """By the file system's own time, since several machines may share it."""
    marks = place / OPEN
    if not marks.is_dir():
        return set()
    here = marks / f"now-{secrets.token_hex(8)}"
    here.touch()
    before = here.stat().st_mtime - ORPHAN_S
    here.unlink()
    return {
        mark.stem
        for mark in marks.iterdir()
        if _is_before(mark, before) and _is_before(_path_of(place, mark.stem), before)
    }


def _is_before(path: Path, moment_s: float) -> bool:
    """Or not there at all."""
    try:
        return path.stat().st_mtime < moment_s
    except FileNotFoundError:
        return True


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
    """A file on its way: no document names it before it is kept."""

    def __init__(self, place: Path, draft: Draft) -> None:
        self.name = secrets.token_hex(16)
        self.sums = Sums()
        self._place = place
        self._path = _path_of(place, self.name)
        _mark(place, self.name, _IN)
        make_folder(self._path.parent)
        self._file: BinaryIO = self._path.open("xb")

    def write(self, chunk: bytes) -> None:
        with _room(self._place):
            self._file.write(chunk)
        self.sums.add(chunk)

    def keep(self) -> None:
        """From now on it outlives a power cut."""
        with _room(self._place):
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        try:
            os.utime(self._path)
        except FileNotFoundError:
            raise ConflictError(
                "nothing of this object came for a day, and it was swept", hint="send it anew"
            ) from None
        _sync_folders(self._path)

    def drop(self) -> None:
        with contextlib.suppress(OSError):  # what it had still to write does not matter
            self._file.close()
        _unlink(self._path)
        _unmark(self._place, self.name, _IN)


@contextlib.contextmanager
def _room(place: Path) -> Iterator[None]:
    """`StoreFullError` where there is none."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise StoreFullError(str(place)) from error


def _path_of(place: Path, version: str) -> Path:
    return place / version[:2] / version


def _mark(place: Path, version: str, why: str) -> None:
    make_folder(place / OPEN)
    (place / OPEN / f"{version}{why}").touch(mode=0o600)


def _unmark(place: Path, version: str, why: str) -> None:
    _unlink(place / OPEN / f"{version}{why}")


def _sync_folders(path: Path) -> None:
    if os.name == "nt":  # has no such thing
        return
    for folder in (path.parent, path.parent.parent):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _open_at(path: Path, offset: int) -> BinaryIO:
    file = path.open("rb")
    file.seek(offset)
    return file


async def _read(file: BinaryIO, span: Span) -> AsyncIterator[bytes]:
    left = span.length
    while left and (piece := await asyncio.to_thread(file.read, min(left, CHUNK_BYTES))):
        left -= len(piece)
        yield piece


def _closer(file: BinaryIO) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        file.close()

    return close


def _info(document: Document) -> BlobInfo:
    return msgspec.json.decode(document.body, type=BlobInfo)
