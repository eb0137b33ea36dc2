"""The words of buckets: what is known of an object, what is read of it, what a put says; and which of it can be."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol, Self
from urllib.parse import quote, unquote

import msgspec

from conveyor.model.beside import BlobRangeError
from conveyor.model.errors import InvalidKeyError

KEY_BYTES_MAX: Final = 1_024
METADATA_BYTES_MAX: Final = 2_048
OBJECT_BYTES_MAX: Final = 5_000_000_000
LIST_MAX: Final = 1_000
DELETE_MAX: Final = 1_000
CHUNK_BYTES: Final = 1 << 18
CONTENT_TYPE: Final = "application/octet-stream"
RESERVED: Final = "conveyor-"
"""Names of metadata that begin so are ours."""
_NAME_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_VALUE_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if code != ord("%"))


class BlobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an object without its bytes."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """Another one for other bytes. MD5 in hex, but for what reached S3 in parts."""
    sha256: str | None
    """In hex; None where the object was written by others, or in parts to S3 without being told."""
    content_type: str
    """Empty in a listing of S3, which does not say it; nor does it say metadata."""
    metadata: dict[str, str]
    uploaded: datetime
    version: str
    """Another one with every put; on S3 the etag, where the bucket has no versions."""


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """An object with its bytes, or with those that were asked for."""

    info: BlobInfo
    body: bytes


class BlobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a listing; `cursor` asks for the next part."""

    objects: list[BlobInfo]
    list_complete: bool
    cursor: str | None


class BlobStream:
    """Bytes of one version of an object, piece by piece and once: `async with stream: async for piece in stream`."""

    def __init__(
        self, info: BlobInfo, span: Span, pieces: AsyncIterator[bytes], close: Callable[[], Awaitable[None]]
    ) -> None:
        self.info: Final = info
        self.offset: Final = span.offset
        """Where it begins in the object."""
        self.length: Final = span.length
        """How many bytes will come."""
        self._pieces = pieces
        self._close = close

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Read no more; again is fine."""
        await self._close()


class Span(msgspec.Struct, frozen=True):
    """Where to read, once the object's size is known."""

    offset: int
    length: int


class Wanted(msgspec.Struct, frozen=True):
    """What somebody asked to read: `offset` counts from the end if it is negative, no `length` is all that follows."""

    offset: int = 0
    length: int | None = None

    def check(self) -> None:
        """`BlobRangeError`, whatever the size."""
        if self.length is not None and self.length < 1:
            raise BlobRangeError(f"`length` is {self.length}: must be at least 1")

    @property
    def is_all(self) -> bool:
        return self.offset == 0 and self.length is None

    def within(self, key: str, size: int) -> Span:
        """What there is of it: up to the end of the object. `BlobRangeError` if it begins behind it."""
        offset = max(0, size + self.offset) if self.offset < 0 else self.offset
        if offset >= size and offset > 0:
            raise BlobRangeError(f"object `{key}` has {size:,} bytes, and byte {offset:,} was asked for")
        length = size - offset if self.length is None else min(self.length, size - offset)
        return Span(offset, length)


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What a put says beside the bytes."""

    key: str
    content_type: str
    metadata: dict[str, str]
    size_max: int
    sha256: str | None
    """What they must be, in hex."""
    md5: str | None


class Backend(Protocol):
    """Where a bucket's objects lie. Keys, limits and drafts were checked before they come here."""

    async def put(self, draft: Draft, chunks: AsyncIterator[bytes]) -> BlobInfo:
        """All of it or nothing. `BodyTooLargeError`, `BlobChecksumError`."""
        ...

    async def open(self, key: str, wanted: Wanted) -> BlobStream | None:
        """`BlobRangeError`."""
        ...

    async def head(self, key: str) -> BlobInfo | None: ...

    async def find(self, prefix: str, limit: int, after: str | None) -> list[BlobInfo]:
        """At most `limit`, by the UTF-8 bytes of their keys."""
        ...

    async def copy(self, source: str, target: str) -> BlobInfo | None:
        """None if there is no source."""
        ...

    async def delete(self, key: str) -> bool:
        """Whether it was there."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> None: ...

    async def sign(self, method: str, key: str, life_ms: int, size_max: int | None) -> str:
        """A URL that is good for this one thing; `method` is GET or PUT. `InvalidSettingError` for a bound that it
        cannot hold."""
        ...


def check_key(key: str) -> None:
    """`InvalidKeyError`."""
    try:
        size = len(key.encode()) if isinstance(key, str) else 0
    except UnicodeEncodeError:
        raise InvalidKeyError("a key holds half of a surrogate pair") from None
    if not 1 <= size <= KEY_BYTES_MAX or "\0" in key:
        raise InvalidKeyError(f"a key has 1 to {KEY_BYTES_MAX:,} bytes of UTF-8, and no NUL")


def check_content_type(key: str, content_type: str) -> None:
    """`InvalidKeyError` for what is no header's value."""
    if not (0 < len(content_type) <= 255 and content_type.isascii() and content_type.isprintable()):
        raise InvalidKeyError(f"the content type of `{key}` is not 1 to 255 printable ASCII characters")


def read_metadata(key: str, given: Mapping[str, str] | None) -> dict[str, str]:
    """`InvalidKeyError` for what S3's headers could not carry: names are lower-case words, values any text."""
    facts = dict(given or {})
    size = 0
    for name, value in facts.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise InvalidKeyError(f"the metadata of `{key}` are not all text")
        if not name or not _NAME_CHARS.issuperset(name) or name.startswith(RESERVED):
            hint = f"a-z, 0-9, - and _; not `{RESERVED}...`"
            raise InvalidKeyError(f"the metadata of `{key}` have the name `{name[:64]}`", hint=hint)
        try:
            size += len(name) + len(write_value(value))
        except UnicodeEncodeError:
            raise InvalidKeyError(f"the metadata of `{key}` hold half of a surrogate pair") from None
    if size > METADATA_BYTES_MAX:
        raise InvalidKeyError(f"the metadata of `{key}` have {size:,} bytes, the limit is {METADATA_BYTES_MAX:,}")
    return facts


def write_value(text: str) -> str:
    """A value of metadata as a header carries it: what is not visible ASCII is percent-encoded."""
    return quote(text, safe=_VALUE_SAFE)


def read_value(text: str) -> str:
    """The way back; what others wrote stays as it is where it says nothing else."""
    with contextlib.suppress(UnicodeDecodeError):
        return unquote(text, errors="strict")
    return text
