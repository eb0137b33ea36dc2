"""Objects in buckets: whole or not at all, whatever their keys, and no file left behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.blobs.bucket import Bucket
from conveyor.blobs.files import delete_bucket, make_bucket
from conveyor.blobs.model import CHUNK_BYTES
from conveyor.model.errors import BodyTooLargeError, ConflictError, InvalidKeyError, InvalidSettingError, NotFoundError
from conveyor.testing.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONVEYOR_FILES", raising=False)
    return tmp_path


@pytest.fixture
async def bucket(folder: Path) -> AsyncIterator[Bucket]:
    async with Conveyor("shop", url="sqlite:///shop.db", clock=ManualClock()) as app:
        yield app.bucket("UPLOADS")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("shop.db-files/**/*") if path.is_file()]


def folders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir()]


async def test_what_goes_in_comes_out(bucket: Bucket) -> None:
    put = await bucket.put("a/b.txt", "grüße", content_type="text/plain", metadata={"by": "me"})
    found = await bucket.get("a/b.txt")
    assert found is not None
    assert (found.body, found.info, await bucket.head("a/b.txt")) == ("grüße".encode(), put, put)
    assert (put.size, put.etag) == (7, "fee40dc24d0ad6a90c608052aa4e9e66")
    assert put.sha256 == hashlib.sha256("grüße".encode()).hexdigest()
    assert (put.content_type, put.metadata) == ("text/plain", {"by": "me"})
    assert [await bucket.get("b"), await bucket.head("b")] == [None, None]


async def test_large_objects_go_piece_by_piece(bucket: Bucket) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(5):
            yield bytes([number]) * CHUNK_BYTES

    assert (await bucket.put("big", pieces())).size == 5 * CHUNK_BYTES
    came = [piece async for piece in bucket.chunks("big")]
    assert len(came) == 5
    assert b"".join(came) == b"".join(bytes([number]) * CHUNK_BYTES for number in range(5))
    with pytest.raises(NotFoundError):
        [piece async for piece in bucket.chunks("none")]


async def test_put_replaces_and_leaves_one_file(bucket: Bucket, folder: Path) -> None:
    first = await bucket.put("a", b"1")
    second = await bucket.put("a", b"2")
    assert first.version != second.version
    assert [path.read_bytes() for path in files(folder)] == [b"2"]
    assert [await bucket.delete("a"), await bucket.delete("a")] == [True, False]
    assert files(folder) == []


async def test_of_puts_at_once_one_stays(bucket: Bucket, folder: Path) -> None:
    await asyncio.gather(*(bucket.put("a", str(number)) for number in range(20)))
    found = await bucket.get("a")
    assert found is not None
    assert [path.read_bytes() for path in files(folder)] == [found.body]


async def test_a_reader_gets_one_version_whole_while_it_is_replaced(bucket: Bucket) -> None:
    await bucket.put("a", b"1" * 3 * CHUNK_BYTES)
    reading = bucket.chunks("a")
    begun = await anext(reading)
    await bucket.put("a", b"2")
    assert begun + b"".join([piece async for piece in reading]) == b"1" * 3 * CHUNK_BYTES


async def test_a_put_that_breaks_off_changes_nothing(bucket: Bucket, folder: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    await bucket.put("a", b"whole")
    with pytest.raises(ConnectionResetError):
        await bucket.put("a", broken())
    with pytest.raises(BodyTooLargeError):
        await bucket.put("a", b"too long", size_max=3)
    assert [path.read_bytes() for path in files(folder)] == [b"whole"]


@pytest.mark.parametrize(
    "key", ["../../x", "/etc/passwd", "C:\\x", "a" * 1_024, "\u202egpj.exe", ".", "..", "~", "a\nb"]
)
async def test_any_key_is_a_key_and_no_path(bucket: Bucket, key: str, folder: Path) -> None:
    await bucket.put(key, b"x")
    [path] = files(folder)
    assert len(path.name) == 32
    assert path.parent.parent == folder / "shop.db-files" / "buckets"
    assert [each.key for each in (await bucket.list()).objects] == [key]
    assert (path.parent.parent.stat().st_mode & 0o077, os.name) in {(0, "posix"), (0o077, "nt")}


@pytest.mark.parametrize("key", ["", "a" * 1_025, "a\0b", "\ud800", "ä" * 513])
async def test_what_cannot_be_a_key_is_refused(bucket: Bucket, key: str) -> None:
    with pytest.raises(InvalidKeyError):
        await bucket.put(key, b"x")
    with pytest.raises(InvalidKeyError):
        await bucket.get(key)


@pytest.mark.parametrize(
    "options",
    [
        {"content_type": "a\r\nb"},
        {"metadata": {"a": "b" * 2_049}},
        {"metadata": {"a": 1}},
        {"metadata": {"a": "\ud800"}},
    ],
)
async def test_metadata_are_small_text(bucket: Bucket, options: dict[str, object]) -> None:
    with pytest.raises(InvalidKeyError):
        await bucket.put("a", b"x", **options)  # type: ignore[arg-type]


async def test_list_goes_by_prefix_and_page(bucket: Bucket) -> None:
    for key in ("b", "a/2", "a/1", "a/3", "ä"):
        await bucket.put(key, key)
    page = await bucket.list(prefix="a/", limit=2)
    assert ([each.key for each in page.objects], page.list_complete) == (["a/1", "a/2"], False)
    rest = await bucket.list(prefix="a/", limit=2, cursor=page.cursor)
    assert ([each.key for each in rest.objects], rest.list_complete, rest.cursor) == (["a/3"], True, None)
    assert [each.key for each in (await bucket.list()).objects] == ["a/1", "a/2", "a/3", "b", "ä"]
    wrongs: list[dict[str, Any]] = [{"limit": 0}, {"prefix": "\ud800"}, {"cursor": "a\0"}]
    for wrong in wrongs:
        with pytest.raises(InvalidKeyError):
            await bucket.list(**wrong)


async def test_bytes_that_are_elsewhere_are_told_of(bucket: Bucket, folder: Path) -> None:
    await bucket.put("a", b"1")
    files(folder)[0].unlink()
    with pytest.raises(NotFoundError, match="CONVEYOR_FILES"):
        await bucket.get("a")


async def test_a_bucket_with_objects_is_not_deleted(bucket: Bucket) -> None:
    store = bucket._backend._store  # type: ignore[attr-defined]
    await bucket.put("a", b"1")
    with pytest.raises(ConflictError):
        await make_bucket(store, "UPLOADS")
    with pytest.raises(ConflictError):
        await delete_bucket(store, "UPLOADS")
    await bucket.delete("a")
    assert [await delete_bucket(store, "UPLOADS"), await delete_bucket(store, "UPLOADS")] == [True, False]


async def test_the_folder_is_a_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_FILES", "elsewhere")
    async with Conveyor("shop", url="sqlite:///shop.db") as app:
        await app.bucket("a").put("a", b"1")
    assert folders(folder) == ["elsewhere"]
    monkeypatch.delenv("CONVEYOR_FILES")
    (folder / "pyproject.toml").write_text('[tool.conveyor]\nfiles = "third"\n')
    async with Conveyor("shop", url="sqlite:///shop.db") as app:
        await app.bucket("a").put("b", b"1")
    assert (folder / "third" / "buckets").is_dir()


async def test_files_of_a_kit_are_gone_with_it(folder: Path) -> None:
    app = Conveyor("shop", url="sqlite:///shop.db")
    async with app.testing():
        await app.bucket("a").put("a", b"1")
        place = app.bindings.folder()
        assert place.is_dir()
    assert folders(folder) == []
    async with app:
        assert await app.bucket("a").head("a") is None
    assert not place.exists()


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(InvalidSettingError):
        Conveyor("shop", url="memory://").bucket("../x")
