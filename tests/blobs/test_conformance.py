"""What every bucket does, wherever it lies: the same on local files, on S3, and below a prefix there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from conveyor import BlobChecksumError, BodyTooLargeError, Bucket, InvalidError, NotFoundError
from conveyor.blobs.s3 import PART_BYTES
from conveyor.model.beside import BlobRangeError
from conveyor.model.errors import InvalidDurationError, InvalidKeyError

pytestmark = pytest.mark.anyio

PIECE = 1_000_000
LARGE = 2 * PART_BYTES + 7
"""Goes to S3 in three parts."""


async def stream(size: int, mark: int = 0) -> AsyncIterator[bytes]:
    """That many bytes, which say where they are."""
    for start in range(0, size, PIECE):
        yield bytes([(mark + start // PIECE) % 256]) * min(PIECE, size - start)


async def whole(size: int, mark: int = 0) -> bytes:
    return b"".join([piece async for piece in stream(size, mark)])


async def test_what_goes_in_comes_out(bucket: Bucket) -> None:
    metadata = {"by": "Jürgen  100%", "empty": "", "line": "a\nb", "a-b_c": "%41"}
    put = await bucket.put("a/b.txt", "grüße", content_type="text/plain; charset=utf-8", metadata=metadata)
    assert (put.key, put.size, put.etag) == ("a/b.txt", 7, "fee40dc24d0ad6a90c608052aa4e9e66")
    assert put.sha256 == hashlib.sha256("grüße".encode()).hexdigest()
    found = await bucket.get("a/b.txt")
    assert found is not None
    assert found.body == "grüße".encode()
    assert (found.info.content_type, found.info.metadata) == ("text/plain; charset=utf-8", metadata)
    assert (found.info.etag, found.info.sha256, found.info.version) == (put.etag, put.sha256, put.version)
    assert await bucket.head("a/b.txt") == found.info
    assert abs(found.info.uploaded - datetime.now(UTC)) < timedelta(minutes=1)


async def test_what_is_not_there_is_none(bucket: Bucket) -> None:
    assert [await bucket.get("b"), await bucket.head("b"), await bucket.open("b"), await bucket.delete("b")] == [
        None,
        None,
        None,
        False,
    ]
    with pytest.raises(NotFoundError):
        [piece async for piece in bucket.chunks("b")]
    with pytest.raises(NotFoundError):
        await bucket.copy("b", "c")
    assert (await bucket.list()).objects == []


async def test_a_large_object_goes_and_comes_piece_by_piece(bucket: Bucket) -> None:
    put = await bucket.put("big", stream(LARGE), content_type="video/mp4", metadata={"by": "me"})
    sum = hashlib.sha256(await whole(LARGE)).hexdigest()
    assert (put.size, put.sha256) == (LARGE, sum)
    head = await bucket.head("big")
    assert head is not None
    assert (head.size, head.etag, head.content_type, head.metadata) == (LARGE, put.etag, "video/mp4", {"by": "me"})
    pieces = [piece async for piece in bucket.chunks("big")]
    assert max(map(len, pieces)) < LARGE / 2
    assert hashlib.sha256(b"".join(pieces)).hexdigest() == sum


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1])
async def test_every_size_is_a_size(bucket: Bucket, size: int) -> None:
    put = await bucket.put("a", stream(size))
    found = await bucket.get("a")
    assert found is not None
    assert (put.size, found.info.size, len(found.body)) == (size, size, size)
    assert found.body == await whole(size)


async def test_a_file_is_content(bucket: Bucket, folder: Path) -> None:
    (folder / "clip").write_bytes(b"x" * 600_000)
    assert (await bucket.put("a", folder / "clip")).size == 600_000
    assert (await bucket.put("a", memoryview(b"abc"))).size == 3  # type: ignore[arg-type]  # it is taken all the same
    with pytest.raises(FileNotFoundError):
        await bucket.put("a", folder / "none")
    assert (await bucket.head("a") or None) is not None


@pytest.mark.parametrize(
    ("offset", "length", "wanted"),
    [
        (0, None, b"0123456789"), (0, 1, b"0"), (3, 4, b"3456"), (9, None, b"9"), (9, 5, b"9"), (0, 99, b"0123456789"),
        (-3, None, b"789"), (-99, None, b"0123456789"),
    ],
)  # fmt: skip
async def test_a_part_is_read_alone(bucket: Bucket, offset: int, length: int | None, wanted: bytes) -> None:
    await bucket.put("a", b"0123456789")
    found = await bucket.get("a", offset=offset, length=length)
    assert found is not None
    assert (found.body, found.info.size) == (wanted, 10)
    stream = await bucket.open("a", offset=offset, length=length)
    assert stream is not None
    async with stream:
        assert (stream.length, stream.offset % 10) == (len(wanted), int(wanted[:1]))
    assert b"".join([piece async for piece in bucket.chunks("a", offset=offset, length=length)]) == wanted


async def test_a_part_that_is_not_there_is_refused(bucket: Bucket) -> None:
    await bucket.put("a", b"0123456789")
    for offset, length in ((10, None), (10, 1), (5_000_000_000, 1), (0, 0), (0, -1)):
        with pytest.raises(BlobRangeError):
            await bucket.get("a", offset=offset, length=length)
    await bucket.put("empty", b"")
    for offset, length in ((0, None), (0, 5), (-5, None)):
        found = await bucket.get("empty", offset=offset, length=length)
        assert found is not None
        assert found.body == b""
    with pytest.raises(BlobRangeError):
        await bucket.get("empty", offset=1)
    assert await bucket.get("none", offset=5, length=2) is None


async def test_a_part_of_the_end_of_an_unknown_size(bucket: Bucket) -> None:
    await bucket.put("a", b"0123456789")
    found = await bucket.get("a", offset=-4, length=2)
    assert found is not None
    assert found.body == b"67"


@pytest.mark.parametrize("size", [10, LARGE])
async def test_a_put_that_breaks_off_changes_nothing(bucket: Bucket, size: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        async for piece in stream(size):
            yield piece
        raise ConnectionResetError

    await bucket.put("a", b"whole")
    with pytest.raises(ConnectionResetError):
        await bucket.put("a", broken())
    with pytest.raises(BodyTooLargeError):
        await bucket.put("a", stream(size), size_max=size - 1)
    with pytest.raises(BlobChecksumError):
        await bucket.put("a", stream(size), sha256="0" * 64)
    with pytest.raises(BlobChecksumError):
        await bucket.put("a", stream(size), md5="0" * 32)
    found = await bucket.get("a")
    assert found is not None
    assert (found.body, found.info.size) == (b"whole", 5)
    with pytest.raises(ConnectionResetError):
        await bucket.put("never", broken())
    assert [each.key for each in (await bucket.list()).objects] == ["a"]


@pytest.mark.parametrize("size", [10, LARGE])
async def test_what_was_announced_is_kept(bucket: Bucket, size: int) -> None:
    body = await whole(size)
    sha256, md5 = hashlib.sha256(body).hexdigest(), hashlib.md5(body, usedforsecurity=False).hexdigest()
    await bucket.put("a", stream(size), sha256=sha256.upper(), md5=md5, size_max=size)
    head = await bucket.head("a")
    assert head is not None
    assert (head.size, head.sha256) == (size, sha256)


@pytest.mark.parametrize("given", [{"sha256": "abc"}, {"md5": "z" * 32}, {"sha256": ""}])
async def test_what_is_no_digest_is_refused(bucket: Bucket, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidKeyError):
        await bucket.put("a", b"", **given)


async def test_a_put_that_is_cancelled_changes_nothing(bucket: Bucket) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        async for piece in stream(LARGE):
            yield piece
        begun.set()
        await never.wait()

    await bucket.put("a", b"whole")
    task = asyncio.create_task(bucket.put("a", slow()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await bucket.get("a") or pytest.fail("gone")).body == b"whole"


@pytest.mark.parametrize("size", [50_000, PART_BYTES + 50_000])
async def test_of_writers_at_once_one_stays_whole(bucket: Bucket, size: int) -> None:
    puts = await asyncio.gather(*(bucket.put("a", stream(size, mark)) for mark in range(0, 200, 40)))
    found = await bucket.get("a")
    assert found is not None
    assert hashlib.sha256(found.body).hexdigest() in {put.sha256 for put in puts}
    assert found.info.etag in {put.etag for put in puts}


async def test_a_reader_gets_one_version_whole_while_it_is_replaced(bucket: Bucket) -> None:
    await bucket.put("a", stream(LARGE, 1))
    reading = await bucket.open("a")
    assert reading is not None
    async with reading:
        begun = await anext(reading)
        await bucket.put("a", b"2")
        assert begun + b"".join([piece async for piece in reading]) == await whole(LARGE, 1)
    assert (await bucket.get("a") or pytest.fail("gone")).body == b"2"


async def test_readers_beside_writers_never_see_half(bucket: Bucket) -> None:
    sizes = [3, 70_000, 300_000]
    await bucket.put("a", stream(3, 3))
    done = asyncio.Event()

    async def write() -> None:
        for number in range(15):
            size = sizes[number % 3]
            await bucket.put("a", stream(size, size % 251))
        done.set()

    async def read() -> int:
        count = 0
        while not done.is_set():
            found = await bucket.get("a")
            assert found is not None
            assert len(found.body) == found.info.size and set(found.body) == {found.info.size % 251}
            count += 1
        return count

    _, *counts = await asyncio.gather(write(), read(), read())
    assert all(counts)


async def test_list_goes_by_prefix_and_page(bucket: Bucket) -> None:
    keys = [
        "2026/a",
        "2026/b",
        "2026/b/c",
        "2026/b.txt",
        "2026/bb",
        "2026-11/x",
        "2026",
        "z",
        "ä",
        "Z",
        "2026/\U0001f600",
    ]
    for key in keys:
        await bucket.put(key, key)
    ordered = sorted(keys, key=str.encode)
    assert [each.key for each in (await bucket.list()).objects] == ordered
    for prefix in (
        "",
        "2026",
        "2026/",
        "2026/b",
        "2026/b/",
        "2026/b.",
        "2",
        "z",
        "nothing",
        "2026/b/c",
        "2026/b/c/",
        "ä",
        "..",
    ):
        wanted = [key for key in ordered if key.startswith(prefix)]
        for limit in (1, 2, 3, 1_000):
            assert await _walk(bucket, prefix, limit) == wanted, (prefix, limit)


async def _walk(bucket: Bucket, prefix: str, limit: int) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await bucket.list(prefix=prefix, limit=limit, cursor=cursor)
        assert len(page.objects) <= limit
        assert page.list_complete is (page.cursor is None)
        found += [each.key for each in page.objects]
        cursor = page.cursor
        if cursor is None:
            assert all(one < other for one, other in pairwise(found))
            return found


async def test_a_cursor_holds_while_objects_come_and_go(bucket: Bucket) -> None:
    for key in "abcdef":
        await bucket.put(key, key)
    page = await bucket.list(limit=3)
    assert page.cursor == "c"
    await bucket.delete_many(["c", "d"])
    await bucket.put("a0", b"")
    rest = await bucket.list(limit=3, cursor=page.cursor)
    assert ([each.key for each in rest.objects], rest.cursor) == (["e", "f"], None)


async def test_a_listing_knows_sizes_and_with_details_the_rest(bucket: Bucket) -> None:
    await bucket.put("a", b"12", content_type="text/plain", metadata={"by": "me"})
    put = await bucket.put("b", b"123")
    plain = (await bucket.list()).objects
    assert [(each.size, each.etag) for each in plain][1] == (3, put.etag)
    full = (await bucket.list(details=True)).objects
    assert full == [await bucket.head("a"), await bucket.head("b")]
    assert (full[0].content_type, full[0].metadata) == ("text/plain", {"by": "me"})


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"limit": 1_001}, {"prefix": "\ud800"}, {"cursor": "a\0"}, {"prefix": "x" * 1_025}]
)
async def test_a_listing_that_cannot_be_is_refused(bucket: Bucket, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidKeyError):
        await bucket.list(**wrong)


async def test_a_copy_is_as_its_source_and_on_its_own(bucket: Bucket) -> None:
    put = await bucket.put("a", b"1", content_type="text/plain", metadata={"by": "me"})
    await bucket.put("b", b"former")
    copied = await bucket.copy("a", "b")
    assert (copied.key, copied.size, copied.etag, copied.sha256) == ("b", 1, put.etag, put.sha256)
    assert (copied.content_type, copied.metadata) == ("text/plain", {"by": "me"})
    await bucket.put("a", b"2")
    assert await bucket.delete("a")
    assert (await bucket.get("b") or pytest.fail("gone")).body == b"1"
    same = await bucket.copy("b", "b") if (await bucket.head("b")) else None
    assert same is not None
    assert (await bucket.get("b") or pytest.fail("gone")).body == b"1"


async def test_deleting_says_what_was_there(bucket: Bucket) -> None:
    for key in ("a", "b", "c", "d"):
        await bucket.put(key, key)
    assert [await bucket.delete("a"), await bucket.delete("a")] == [True, False]
    await bucket.delete_many(["b", "c", "none"])
    await bucket.delete_many([])
    assert [each.key for each in (await bucket.list()).objects] == ["d"]
    for wrong in ("ab", [""], ["x"] * 1_001):
        with pytest.raises(InvalidError):
            await bucket.delete_many(wrong)


KEYS = [
    "a b", "a+b", "a%20b", "a%2Fb", "a?b#c&d=e", "ä/ö", "\u202egpj.exe", "A", "a", "C:\\x", "a\\..\\b", "~", "-rf", "...", "..a", "a..", "a*",
    "con", "\U0001f600", "e\u0301", "é", "<b>", "'\"", "x" * 1_024, ".hidden", "$(id)", "a;b", "{}", "[x]", "^`|",
]  # fmt: skip


async def test_odd_keys_are_keys(bucket: Bucket) -> None:
    """Whatever they look like, each is an object of its own; case and Unicode's forms count."""
    if bucket.name and "prefix" in repr(bucket._backend):
        pytest.skip("a key of 1,024 bytes and a prefix are more than S3 takes")
    for number, key in enumerate(KEYS):
        await bucket.put(key, str(number))
    for number, key in enumerate(KEYS):
        assert (await bucket.get(key) or pytest.fail(key)).body == str(number).encode(), key
    assert [each.key for each in (await bucket.list()).objects] == sorted(KEYS, key=str.encode)
    await bucket.delete_many(KEYS[1:])
    assert [each.key for each in (await bucket.list()).objects] == KEYS[:1]


@pytest.mark.parametrize("key", ["", "x" * 1_025, "a\0b", "\ud800", "ä" * 513])
async def test_what_cannot_be_a_key_is_refused(bucket: Bucket, key: str) -> None:
    calls = [
        bucket.put(key, b"x"), bucket.get(key), bucket.head(key), bucket.delete(key), bucket.copy(key, "a"), bucket.copy("a", key),
        bucket.sign_get(key), bucket.sign_put(key), bucket.delete_many([key]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(InvalidKeyError):
            await call


@pytest.mark.parametrize(
    "options",
    [
        {"content_type": "a\r\nb"}, {"content_type": ""}, {"content_type": "ä"}, {"content_type": "x" * 256},
        {"metadata": {"a": "b" * 2_049}}, {"metadata": {"a": 1}}, {"metadata": {"a": "\ud800"}}, {"metadata": {"A": "b"}},
        {"metadata": {"": "b"}}, {"metadata": {"a b": "c"}}, {"metadata": {"conveyor-sha256": "c"}}, {"metadata": {"a": "ä" * 400}},
    ],
)  # fmt: skip
async def test_what_no_header_could_carry_is_refused(bucket: Bucket, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidKeyError):
        await bucket.put("a", b"x", **options)


@pytest.mark.parametrize("expires_in", [0, -1, 0.5, "8d", "soon"])
async def test_a_link_has_an_end(bucket: Bucket, expires_in: Any) -> None:
    with pytest.raises(InvalidDurationError):
        await bucket.sign_get("a", expires_in=expires_in)
