"""Objects in a bucket behind HTTP: S3, R2, and what speaks as they do. What obstore says of a failure holds what was
sent, so none of its words leave this module: a status, S3's own code, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import obstore
from obstore.exceptions import (
    BaseError,
    GenericError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from conveyor.blobs.address import Address
from conveyor.blobs.model import (
    CHUNK_BYTES,
    CONTENT_TYPE,
    LIST_MAX,
    RESERVED,
    BlobInfo,
    BlobStream,
    Draft,
    Span,
    Wanted,
    read_value,
    write_value,
)
from conveyor.blobs.writing import Sums
from conveyor.model.beside import BucketAwayError
from conveyor.model.clock import Clock
from conveyor.model.errors import BodyTooLargeError, InvalidKeyError, InvalidSettingError

if TYPE_CHECKING:
    from obstore import BytesStream

PART_BYTES: Final = 8 * 1024 * 1024
"""What is smaller goes in one request."""
PARTS_MAX: Final = 10_000
PARTS_AT_ONCE: Final = 2
PATIENCE_S: Final = 30
"""For one request and its retries."""
_SUM: Final = f"{RESERVED}sha256"
_HEADERS: Final = frozenset(
    {"Content-Type", "Content-Disposition", "Content-Encoding", "Content-Language", "Cache-Control"}
)
_STATUS: Final = re.compile(r"status code: (\d{3})|status: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")


class S3Backend:
    """One bucket, or what lies under a prefix of it."""

    def __init__(self, address: Address, clock: Callable[[], Clock], name: str) -> None:
        self._name = name
        self._clock = clock
        given: dict[str, Any] = dict(address.options)
        with _told(name):
            self._remote = S3Store(
                address.bucket,
                prefix=address.prefix or None,
                client_options={
                    "allow_http": address.is_plain,
                    "connect_timeout": "5s",
                    "read_timeout": "120s",  # to make one of a thousand parts takes a while
                    "timeout": "24h",
                },
                retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=PATIENCE_S)},
                **given,
            )

    async def put(self, draft: Draft, chunks: AsyncIterator[bytes]) -> BlobInfo:
        """What is short in one request, the rest in parts; if it breaks off, the parts are taken back."""
        _check_path(draft.key)
        sums = Sums()
        pieces = _counted(chunks, sums, draft)
        first = bytearray()
        async for piece in pieces:
            first += piece
            if len(first) >= PART_BYTES:
                break
        feed = _Feed(first, pieces, sums, draft)
        try:
            with _told(self._name):
                made = await (self._put_parts(draft, feed) if len(first) >= PART_BYTES else self._put_one(draft, feed))
        except FileNotFoundError:
            raise feed.failure or BucketAwayError(self._name, "HTTP 404") from None
        etag = (made["e_tag"] or "").strip('"')
        return BlobInfo(
            key=draft.key, size=sums.size, etag=etag, sha256=sums.sha256, content_type=draft.content_type,
            metadata=draft.metadata, version=_version(made["version"], etag), uploaded=self._now(),
        )  # fmt: skip

    async def _put_one(self, draft: Draft, feed: _Feed) -> Any:
        body = b"".join([piece async for piece in feed])
        facts = _attributes(draft, feed.sums.sha256)
        return await obstore.put_async(self._remote, draft.key, body, attributes=facts, use_multipart=False)

    async def _put_parts(self, draft: Draft, feed: _Feed) -> Any:
        """Should nobody wait for it any more, it is still told to stop, so that it takes its parts back."""
        part = max(PART_BYTES, -(-draft.size_max // PARTS_MAX))
        putting = asyncio.ensure_future(
            obstore.put_async(
                self._remote, draft.key, feed, attributes=_attributes(draft, draft.sha256), chunk_size=part,
                max_concurrency=PARTS_AT_ONCE,
            )
        )  # fmt: skip
        try:
            return await asyncio.shield(putting)
        except asyncio.CancelledError:
            feed.stop()
            with contextlib.suppress(BaseException):
                await asyncio.wait_for(asyncio.shield(putting), PATIENCE_S)
            raise

    async def open(self, key: str, wanted: Wanted) -> BlobStream | None:
        """S3 knows no part of the end of an object but all of it: for such we look at its size before."""
        _check_path(key)
        while wanted.offset < 0 and wanted.length is not None:
            info = await self.head(key)
            if info is None:
                return None
            span = wanted.within(key, info.size)
            with contextlib.suppress(PreconditionError):  # replaced meanwhile
                return await self._open(key, Wanted(span.offset, span.length or None), if_match=f'"{info.etag}"')
        return await self._open(key, wanted)

    async def _open(self, key: str, wanted: Wanted, **options: Any) -> BlobStream | None:
        if not wanted.is_all:
            options["range"] = _range_of(wanted)
        try:
            with _told(self._name):
                found = await obstore.get_async(self._remote, key, options=cast("Any", options))
        except FileNotFoundError:
            return None
        except BucketAwayError:
            info = None if wanted.is_all else await self.head(key)
            if info is None or wanted.within(key, info.size).length:  # it is there: S3 refused for another reason
                raise
            return BlobStream(info, Span(0, 0), _nothing(), _close_nothing)
        start, end = found.range
        info = _info(key, found.meta, found.attributes)
        pieces = self._read(found.stream(min_chunk_size=CHUNK_BYTES))
        return BlobStream(info, Span(start, end - start), pieces, pieces.aclose)

    async def _read(self, stream: BytesStream) -> AsyncGenerator[bytes, None]:
        with _told(self._name):
            async for piece in stream:
                yield bytes(piece)

    async def head(self, key: str) -> BlobInfo | None:
        _check_path(key)
        try:
            with _told(self._name):
                found = await obstore.get_async(self._remote, key, options={"head": True})
        except FileNotFoundError:
            return None
        return _info(key, found.meta, found.attributes)

    async def find(self, prefix: str, limit: int, after: str | None) -> list[BlobInfo]:
        """Keys that begin so lie side by side, so the listing starts before them and ends behind them."""
        found: list[BlobInfo] = []
        folder = prefix.rpartition("/")[0] or None
        if folder is not None and not _is_path(folder):
            return found
        if prefix and (after is None or after < prefix) and _is_path(prefix):
            same = await self.head(prefix)  # the listing starts behind it
            found += [] if same is None else [same]
        start = max(prefix, after or "")
        offset = start if _is_path(start) else None
        with _told(self._name):
            async for page in obstore.list(self._remote, folder, offset=offset, chunk_size=min(limit, LIST_MAX)):
                for meta in page:
                    key = meta["path"]
                    if key <= start:
                        continue
                    if len(found) >= limit or not key.startswith(prefix):
                        return found
                    found.append(_info(key, meta, {}, content_type=""))
        return found

    async def copy(self, source: str, target: str) -> BlobInfo | None:
        _check_path(source)
        _check_path(target)
        try:
            with _told(self._name):
                await obstore.copy_async(self._remote, source, target)
        except FileNotFoundError:
            return None
        return await self.head(target)

    async def delete(self, key: str) -> bool:
        """S3 does not say whether it was there: we look before."""
        if await self.head(key) is None:
            return False
        await self.delete_many([key])
        return True

    async def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            _check_path(key)
        with _told(self._name), contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._remote, list(keys))

    async def sign(self, method: str, key: str, life_ms: int, size_max: int | None) -> str:
        _check_path(key)
        if size_max is not None:
            hint = "leave it out, and look at the object's size once it is there"
            raise InvalidSettingError("size_max", size_max, "S3's links have no bound", hint=hint)
        with _told(self._name):
            verb: Any = method
            return await obstore.sign_async(self._remote, verb, key, timedelta(milliseconds=life_ms))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock().now_ms() / 1000, UTC)


class _Feed:
    """The pieces of an upload; `stop` makes it fail, which is the one way to make obstore take its parts back."""

    def __init__(self, first: bytearray, rest: AsyncIterator[bytes], sums: Sums, draft: Draft) -> None:
        self.sums = sums
        self.failure: Exception | None = None
        """What the one who gives the bytes raised."""
        self._first: bytearray | None = first
        self._rest = rest
        self._draft = draft
        self._is_stopped = False
        self._coming: asyncio.Future[bytes | None] | None = None

    def __aiter__(self) -> _Feed:
        return self

    async def __anext__(self) -> bytes:
        if self._is_stopped:
            raise InterruptedError
        if self._first is not None:
            first, self._first = bytes(self._first), None
            return first
        self._coming = asyncio.ensure_future(anext(self._rest, None))
        try:
            piece = await self._coming
            if piece is None:
                self.sums.check(self._draft)  # before the bytes become an object
                raise StopAsyncIteration
        except asyncio.CancelledError:
            if self._is_stopped:
                raise InterruptedError from None
            raise
        except Exception as error:
            self.failure = None if isinstance(error, StopAsyncIteration) else error
            raise
        return piece

    def stop(self) -> None:
        """Whoever is waited for is not waited for any more."""
        self._is_stopped = True
        if self._coming is not None:
            self._coming.cancel()


async def _counted(chunks: AsyncIterator[bytes], sums: Sums, draft: Draft) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        if sums.size + len(chunk) > draft.size_max:
            raise BodyTooLargeError(f"object `{draft.key}`", sums.size + len(chunk), draft.size_max)
        await asyncio.to_thread(sums.add, chunk)
        if chunk:
            yield chunk


@contextlib.contextmanager
def _told(bucket: str) -> Iterator[None]:
    """obstore's errors in our words, without theirs: those hold headers, keys and what the server answered."""
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" not in str(error):
            raise FileNotFoundError from None
        raise BucketAwayError(bucket, "there is no such bucket", hint="make it there, or mend its URL") from None
    except InvalidPathError:
        problem = "it holds a key with an empty part, `.` or `..`, which is not read here"
        raise BucketAwayError(bucket, problem, hint="rename that object, or list another prefix") from None
    except PreconditionError:
        raise
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise BucketAwayError(
            bucket, f"it refuses us ({_reason(error)})", hint="look at its credentials and their rights"
        ) from None
    except BaseError as error:
        raise BucketAwayError(bucket, _reason(error)) from None


def _reason(error: Exception) -> str:
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    said = [f"HTTP {status[1] or status[2]}" if status else "", code[1] if code else ""]
    if any(said):
        return " ".join(filter(None, said))
    return "it did not answer" if isinstance(error, GenericError) else type(error).__name__


def _is_path(key: str) -> bool:
    parts = key.split("/")
    return not any(part in {"", ".", ".."} for part in parts) and not any(
        ord(each) < 0x20 or ord(each) == 0x7F for each in key
    )


def _check_path(key: str) -> None:
    if not _is_path(key):
        problem = "a key on S3 has no empty part, `.` or `..` between its slashes, and no control characters"
        raise InvalidKeyError(problem, hint="local files take such keys; choose others for both")


def _range_of(wanted: Wanted) -> Any:
    if wanted.offset < 0:
        return {"suffix": -wanted.offset}
    return {"offset": wanted.offset} if wanted.length is None else (wanted.offset, wanted.offset + wanted.length)


def _attributes(draft: Draft, sha256: str | None) -> Any:
    """As an attachment: whoever opens a presigned link in a browser saves it, whatever its type says."""
    facts = {name: write_value(value) for name, value in draft.metadata.items()}
    if sha256 is not None:
        facts[_SUM] = sha256
    return {"Content-Type": draft.content_type, "Content-Disposition": "attachment", **facts}


def _info(key: str, meta: Any, attributes: Any, *, content_type: str = CONTENT_TYPE) -> BlobInfo:
    facts = {str(name): str(value) for name, value in attributes.items()}
    etag = (meta["e_tag"] or "").strip('"')
    return BlobInfo(
        key=key, size=meta["size"], etag=etag, sha256=facts.pop(_SUM, None),
        content_type=facts.get("Content-Type", content_type),
        metadata={name: read_value(value) for name, value in facts.items() if name not in _HEADERS},
        uploaded=meta["last_modified"], version=_version(meta["version"], etag),
    )  # fmt: skip


def _version(version: str | None, etag: str) -> str:
    return etag if version in {None, "null"} else str(version)


async def _nothing() -> AsyncIterator[bytes]:
    none: tuple[bytes, ...] = ()
    for piece in none:
        yield piece


async def _close_nothing() -> None:
    """There is nothing."""
