"""Objects on local files: no key is a path, no file is left behind, and none is lost that a document names."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.lowlevel
import msgspec
import pytest

from conveyor import Conveyor
from conveyor.blobs.bucket import Bucket
from conveyor.blobs.files import OPEN, ORPHAN_S, FileBackend, delete_bucket, make_bucket, sweep
from conveyor.blobs.model import METADATA_BYTES_MAX, read_metadata
from conveyor.model.errors import (
    BodyTooLargeError,
    ConflictError,
    InvalidKeyError,
    InvalidSettingError,
    NotFoundError,
    OutcomeUnknownError,
    StoreError,
    StoreFullError,
)
from conveyor.store.protocol import Store
from conveyor.store.records import Document
from conveyor.testing.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def app(folder: Path, clock: ManualClock) -> AsyncIterator[Conveyor]:
    async with Conveyor("shop", url="sqlite:///shop.db", clock=clock) as app:
        yield app


@pytest.fixture
def bucket(app: Conveyor) -> Bucket:
    return app.bucket("UPLOADS")


def age(folder: Path) -> None:
    """All that is there is as old as an orphan."""
    for path in files(folder):
        before = path.stat().st_mtime - ORPHAN_S - 1
        os.utime(path, (before, before))


def place_of(folder: Path) -> Path:
    return folder / "shop.db-files" / "buckets"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("shop.db-files/**/*") if path.is_file()]


def folders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir()]


def test_metadata_are_of_so_many_bytes_with_their_names() -> None:
    most = {"ab": "c" * (METADATA_BYTES_MAX - 2)}
    assert read_metadata("a", most) == most
    with pytest.raises(InvalidKeyError, match="2,049 bytes"):
        read_metadata("a", {"ab": "c" * (METADATA_BYTES_MAX - 1)})


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


async def test_a_put_that_was_overtaken_before_it_said_what_it_replaces_leaves_no_mark(
    bucket: Bucket, app: Conveyor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.put("a", b"1")
    real, stale = app.store.get_document, iter([True])

    async def overtaken(kind: str, name: str) -> Document | None:
        found = await real(kind, name)
        if name == "a" and next(stale, False):
            await bucket.put("a", b"2")
        return found

    monkeypatch.setattr(app.store, "get_document", overtaken)
    await bucket.put("a", b"3")
    assert [path.read_bytes() for path in files(folder)] == [b"3"]


async def test_a_delete_takes_what_was_put_meanwhile_with_its_file(
    bucket: Bucket, app: Conveyor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.put("a", b"1")
    real, stale = app.store.get_document, iter([True])

    async def overtaken(kind: str, name: str) -> Document | None:
        found = await real(kind, name)
        if name == "a" and next(stale, False):
            await bucket.put("a", b"2")
        return found

    monkeypatch.setattr(app.store, "get_document", overtaken)
    assert await bucket.delete("a")
    assert files(folder) == []


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


async def test_bytes_that_are_elsewhere_are_told_of(bucket: Bucket, folder: Path) -> None:
    await bucket.put("a", b"1")
    files(folder)[0].unlink()
    with pytest.raises(NotFoundError, match="CONVEYOR_FILES"):
        await bucket.get("a")


async def test_a_bucket_with_objects_is_not_deleted(app: Conveyor, bucket: Bucket) -> None:
    store = app.store
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


async def test_a_put_that_is_cancelled_leaves_no_file(bucket: Bucket, folder: Path) -> None:
    begun = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(bucket.put("a", slow()))
    await begun.wait()
    assert len(files(folder)) == 2  # it, and its mark
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(folder) == []


class Between:
    """A store that does something of a test's own around the writing of a document."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.before: Any = None
        self.after: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put_document(self, kind: str, *given: Any, **options: Any) -> Any:
        is_object = kind.startswith("object:")
        if is_object and self.before is not None:
            await self.before()
        made = await self._store.put_document(kind, *given, **options)
        if is_object and self.after is not None:
            await self.after()
        return made


@pytest.fixture
def between(bucket: Bucket) -> Between:
    backend: Any = bucket._backend
    backend._store = Between(backend._store)
    found: Between = backend._store
    return found


async def fail_unknown() -> None:
    raise OutcomeUnknownError("the line was cut")


async def test_a_put_whose_outcome_is_unknown_loses_no_bytes(bucket: Bucket, between: Between, folder: Path) -> None:
    """The document may be there: then the object is too. Where it is not, a sweep finds the file."""
    between.after = fail_unknown
    with pytest.raises(OutcomeUnknownError):
        await bucket.put("there", b"1")
    between.after, between.before = None, fail_unknown
    with pytest.raises(OutcomeUnknownError):
        await bucket.put("not there", b"2")
    between.before = None
    assert (await bucket.get("there") or pytest.fail("lost")).body == b"1"
    age(folder)
    assert await sweep(between._store, place_of(folder)) == 1
    assert [path.read_bytes() for path in files(folder)] == [b"1"]


async def test_a_put_whose_document_is_refused_leaves_nothing(bucket: Bucket, between: Between, folder: Path) -> None:
    async def refuse() -> None:
        raise StoreError("no")

    await bucket.put("a", b"1")
    between.before = refuse
    with pytest.raises(StoreError):
        await bucket.put("b", b"2")
    with pytest.raises(StoreError):
        await bucket.copy("a", "b")
    assert [path.read_bytes() for path in files(folder)] == [b"1"]


async def test_who_is_cancelled_while_the_document_is_written_may_have_written_it(
    bucket: Bucket, between: Between, folder: Path
) -> None:
    written, go_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        written.set()
        await go_on.wait()

    await bucket.put("a", b"1")
    between.after = pause
    task = asyncio.create_task(bucket.put("a", b"2"))
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await bucket.get("a") or pytest.fail("lost")).body == b"2"
    go_on.set()
    async with asyncio.timeout(60):
        while len(files(folder)) > 1:
            await anyio.lowlevel.checkpoint()
    assert [path.read_bytes() for path in files(folder)] == [b"2"]


async def test_a_copy_moves_no_bytes(bucket: Bucket, folder: Path) -> None:
    await bucket.put("a", b"1")
    await bucket.copy("a", "b")
    one, other = files(folder)
    assert one.samefile(other)
    await bucket.delete("a")
    assert [path.read_bytes() for path in files(folder)] == [b"1"]


async def test_a_copy_where_there_are_no_links(bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    await bucket.put("a", b"1")
    monkeypatch.setattr("os.link", refuse)
    await bucket.copy("a", "b")
    one, other = files(folder)
    assert not one.samefile(other)
    assert (await bucket.get("b") or pytest.fail("gone")).body == b"1"


async def test_a_byte_behind_five_gigabytes(app: Conveyor, bucket: Bucket, folder: Path) -> None:
    """A sparse file, which a document says is 6 GB."""
    await bucket.put("a", b"head")
    [path] = files(folder)
    with path.open("r+b") as file:
        file.seek(6_000_000_000 - 4)
        file.write(b"tail")
    document = await app.store.get_document("object:UPLOADS", "a")
    assert document is not None
    known = msgspec.json.decode(document.body) | {"size": 6_000_000_000}
    await app.store.put_document("object:UPLOADS", "a", msgspec.json.encode(known))
    for offset, length, wanted in (
        (5_999_999_996, None, b"tail"), (-4, None, b"tail"), (5_000_000_000, 3, b"\0\0\0"), (-4, 2, b"ta"), (1, 3, b"ead"),
    ):  # fmt: skip
        found = await bucket.get("a", offset=offset, length=length)
        assert found is not None
        assert (found.body, found.info.size) == (wanted, 6_000_000_000)


PUT_AND_HANG = """
import asyncio, sys
from conveyor import Conveyor

async def main():
    async with Conveyor("shop", url="sqlite:///shop.db") as app:
        async def half():
            yield b"half" * 1000
            print("half", flush=True)
            await asyncio.Event().wait()
        await app.bucket("UPLOADS").put("a", half())

asyncio.run(main())
"""


async def test_what_a_killed_process_left_is_swept_and_nothing_else(
    app: Conveyor, bucket: Bucket, folder: Path, clock: ManualClock
) -> None:
    await bucket.put("a", b"whole")
    with subprocess.Popen([sys.executable, "-c", PUT_AND_HANG], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert len(files(folder)) == 3
    assert (await bucket.get("a") or pytest.fail("lost")).body == b"whole"
    assert await sweep(app.store, place_of(folder)) == 0, "it may be alive"
    age(folder)
    await clock.advance(3_600)
    await bucket.put("b", b"next")
    assert sorted(path.read_bytes() for path in files(folder)) == [b"next", b"whole"]


@pytest.mark.parametrize("how", ["put", "delete"])
async def test_bytes_that_no_document_names_any_more_are_swept(
    app: Conveyor, bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whoever replaced or deleted it died after the document was written."""
    await bucket.put("a", b"1")
    with monkeypatch.context() as dying:
        dying.setattr(FileBackend, "_settle", lambda *_: None)
        await (bucket.put("a", b"2") if how == "put" else bucket.delete("a"))
    age(folder)
    assert await sweep(app.store, place_of(folder)) == 1
    assert len(files(folder)) == (how == "put")


async def test_a_mark_on_what_a_document_names_is_taken_off(app: Conveyor, bucket: Bucket, folder: Path) -> None:
    """Whoever was about to replace it died before the document did."""
    put = await bucket.put("a", b"1")
    (place_of(folder) / OPEN / f"{put.version}.out").touch()
    (place_of(folder) / OPEN / f"{'0' * 32}.out").touch()
    age(folder)
    assert await sweep(app.store, place_of(folder)) == 1
    assert [path.read_bytes() for path in files(folder)] == [b"1"]


async def test_an_upload_that_rested_for_a_day_is_not_kept_without_its_bytes(
    app: Conveyor, bucket: Bucket, folder: Path
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        age(folder)
        await sweep(app.store, place_of(folder))
        yield b"y"

    with pytest.raises(ConflictError, match="swept"):
        await bucket.put("a", slow())
    assert await bucket.head("a") is None


async def test_a_full_disk_is_told_of_and_nothing_stays(
    bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    await bucket.put("a", b"1")
    with monkeypatch.context() as patch:
        patch.setattr("conveyor.blobs.files.os.fsync", refuse)
        with pytest.raises(StoreFullError):
            await bucket.put("a", b"2")
    assert [path.read_bytes() for path in files(folder)] == [b"1"]
