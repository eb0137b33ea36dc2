"""Objects of buckets over HTTP, for whichever wire: parts of them, conditions, and never as a page of ours."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from email.utils import format_datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from conveyor.blobs.bucket import Bucket
from conveyor.blobs.files import FileBackend
from conveyor.blobs.links import Links
from conveyor.blobs.model import BlobInfo, BlobStream
from conveyor.model.beside import BlobRangeError
from conveyor.model.errors import NotFoundError
from conveyor.secrets import Keys
from conveyor.server.endpoint import Answer, Call
from conveyor.store.chosen import choose_files, choose_public_url, choose_stores

_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-([0-9]{1,15}))", re.IGNORECASE)
_NAME_CHARS_MAX: Final = 150
PATIENCE_S: Final = 60.0
"""For a client that takes nothing: players rest while they have enough."""


def bucket_of(call: Call, name: str) -> Bucket:
    """By its own name, wherever it lies."""
    if call.app is not None:
        return call.app.bindings.bucket_named(name)
    return Bucket(FileBackend(call.store, _files, links_of(call), name), _is_open, name)


def links_of(call: Call) -> Links:
    """Those that this store's apps gave out."""
    return call.app.bindings.links if call.app is not None else Links(Keys(_files), choose_public_url)


def remote_names(call: Call) -> Collection[str]:
    """Buckets that lie behind a URL; no document of the store names them."""
    return call.app.bindings.bucket_urls().keys() if call.app is not None else ()


def is_remote(call: Call, name: str) -> bool:
    """Whether it is one of those."""
    return name in remote_names(call)


async def serve_object(call: Call, bucket: Bucket, key: str, *, filename: str | None = None) -> Answer:
    """The bytes, or those that a `Range` asks for, as a download: whatever they say they are, no browser shows them as
    a page. `NotFoundError`, `InvalidKeyError`."""
    if call.method == "HEAD":
        info = await bucket.head(key)
        if info is None:
            raise _missing(bucket, key)
        headers = (*_headers_of(info, filename), (b"content-length", b"%d" % info.size))
        return Answer(200, content_type=info.content_type.encode(), headers=headers, stream=_nothing())
    offset, length = _read_range(call.header("range"))
    try:
        stream = await bucket.open(key, offset=offset, length=length)
    except BlobRangeError:
        info = await bucket.head(key)
        size = b"*" if info is None else b"%d" % info.size
        return Answer(416, headers=((b"content-range", b"bytes */%b" % size),))
    if stream is not None and not _fits(call.header("if-range"), stream.info):
        await stream.aclose()
        stream = await bucket.open(key)
    if stream is None:
        raise _missing(bucket, key)
    if _fits_any(call.header("if-none-match"), stream.info):
        await stream.aclose()
        return Answer(304, headers=((b"etag", _etag(stream.info)),))
    return _answer(stream, filename)


def _answer(stream: BlobStream, filename: str | None) -> Answer:
    info = stream.info
    headers = (*_headers_of(info, filename), (b"content-length", b"%d" % stream.length))
    is_part = stream.length != info.size
    if is_part:
        end = stream.offset + stream.length - 1
        headers += ((b"content-range", b"bytes %d-%d/%d" % (stream.offset, end, info.size)),)
    return Answer(
        206 if is_part else 200, content_type=info.content_type.encode(), headers=headers, stream=stream,
        patience_s=PATIENCE_S,
    )  # fmt: skip


def _headers_of(info: BlobInfo, filename: str | None) -> tuple[tuple[bytes, bytes], ...]:
    disposition = "attachment" if filename is None else f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
    return (
        (b"content-disposition", disposition.encode()),
        (b"accept-ranges", b"bytes"),
        (b"etag", _etag(info)),
        (b"last-modified", format_datetime(info.uploaded, usegmt=True).encode()),
    )


def name_of(key: str) -> str:
    """What a browser calls the file: the key's last part, without what could lead astray."""
    last = re.split(r"[/\\]", key.rstrip("/\\"))[-1]
    name = "".join(each for each in last if each.isprintable()).strip(". ")
    return name[-_NAME_CHARS_MAX:] or "download"


def _etag(info: BlobInfo) -> bytes:
    return f'"{info.etag}"'.encode()


def _fits(condition: str | None, info: BlobInfo) -> bool:
    """`If-Range`: an etag; a date is as good as no match, and all of it comes."""
    return condition is None or condition.strip().encode() == _etag(info)


def _fits_any(condition: str | None, info: BlobInfo) -> bool:
    if condition is None:
        return False
    given = [each.strip().removeprefix("W/").encode() for each in condition.split(",")]
    return b"*" in given or _etag(info) in given


def _read_range(text: str | None) -> tuple[int, int | None]:
    """Offset and length. One range; of several, or of what is none, all of it comes, as the standard allows."""
    found = _RANGE.fullmatch(text.strip()) if text is not None else None
    if found is None:
        return 0, None
    first, last, suffix = found.groups()
    if suffix is not None:
        return (-int(suffix), None) if int(suffix) else (0, 0)
    if not last:
        return int(first), None
    return (int(first), int(last) - int(first) + 1) if int(first) <= int(last) else (0, None)


def _missing(bucket: Bucket, key: str) -> NotFoundError:
    return NotFoundError(f"bucket `{bucket.name}` has no object `{key}`", hint="was it deleted?")


def _files() -> Path:
    return choose_files(choose_stores().url)


async def _is_open() -> None:
    """The server's store is."""


async def _nothing() -> AsyncIterator[bytes]:
    none: tuple[bytes, ...] = ()
    for piece in none:
        yield piece
