"""Copies a store's file page by page, beside those who write: the whole copy is of one moment, and is checked before it
gets its name. A kill leaves a hidden `.partial-` file, which the next copy to that name clears away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, Literal

import apsw

from conveyor.model.errors import ConflictError, StoreCorruptError, StoreUnsupportedError
from conveyor.store.keeping import Copied, Progress
from conveyor.store.sqlite.checkup import check_pages
from conveyor.store.sqlite.connection import look_into, translate
from conveyor.store.sqlite.opening import read_applied

STEP_PAGES: Final = 1_000
"""4 MB: between two steps a person sees the bar move."""
_FULL_SYNC: Final = getattr(fcntl, "F_FULLFSYNC", None)
_BESIDE: Final = ("", "-journal", "-wal", "-shm")


def back_up_file(path: Path, target: Path, *, is_forced: bool, progress: Progress) -> Copied:
    """`target` appears whole or not at all, in a journal mode that opens anywhere."""
    _check_free(target, is_forced=is_forced)
    if target.exists() and target.samefile(path):
        raise ConflictError(f"`{target}` is the store itself", hint="choose another name")
    with make_copy(path, target, journal="delete", progress=progress) as partial:
        partial.chmod(path.stat().st_mode & 0o777)
        copied_bytes = partial.stat().st_size
        _check_free(target, is_forced=is_forced)  # somebody may have made it meanwhile
        put_in_place(partial, target)
    return Copied(path=str(target), copied_bytes=copied_bytes)


def _check_free(target: Path, *, is_forced: bool) -> None:
    if not target.parent.is_dir():
        raise StoreUnsupportedError(f"folder `{target.parent}` does not exist", hint=f"mkdir -p {target.parent}")
    if target.is_dir():
        raise StoreUnsupportedError(f"`{target}` is a folder", hint="name a file, as in backup.db")
    if target.exists() and not is_forced:
        raise ConflictError(f"`{target}` is there already", hint="choose another name, or replace it with `--force`")


@contextlib.contextmanager
def make_copy(
    source: Path, target: Path, *, journal: Literal["delete", "wal"], progress: Progress
) -> Iterator[Path]:
    """A copy beside `target` that is on disk and has been checked; gone afterwards unless it was moved away."""
    try:
        with _partial_of(target) as partial:
            _copy_pages(source, partial, progress)
            _finish(partial, journal)
            yield partial
    except apsw.Error as error:
        is_ours = isinstance(error, apsw.FullError | apsw.IOError | apsw.ReadOnlyError | apsw.CantOpenError)
        raise translate(error, target if is_ours else source) from error


@contextlib.asynccontextmanager
async def make_backup(target: Path, *, is_forced: bool) -> AsyncIterator[Path]:
    """An empty file to fill, for a store that is no file; it becomes `target`, checked and on disk, at the end."""
    _check_free(target, is_forced=is_forced)
    try:
        with _partial_of(target) as partial:
            yield partial
            _finish(partial, "delete")
            _check_free(target, is_forced=is_forced)
            put_in_place(partial, target)
    except apsw.Error as error:
        raise translate(error, target) from error


@contextlib.contextmanager
def _partial_of(target: Path) -> Iterator[Path]:
    _clear_partials(target)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield partial
    finally:
        _remove(partial)


def _finish(partial: Path, journal: Literal["delete", "wal"]) -> None:
    _set_journal(partial, journal)
    sync_path(partial)
    check_copy(partial)


def put_in_place(partial: Path, target: Path) -> None:
    """In one step, which a power cut does not take back."""
    partial.replace(target)
    sync_path(target.parent)


def _copy_pages(source: Path, partial: Path, progress: Progress) -> None:
    """In one snapshot of the source: without it, every commit of others would begin the copy anew."""
    with _closing(look_into(source)) as reader, _closing(_open_there(partial)) as writer:
        if not read_applied(reader):
            raise StoreUnsupportedError(f"`{source}` is no conveyor store", hint="name a store, or a backup of one")
        reader.execute("BEGIN")
        read_applied(reader)  # the first read takes the snapshot
        writer.pragma("journal_mode", "off")
        writer.pragma("synchronous", 0)  # synced once, at the end
        with writer.backup("main", reader, "main") as backup:
            while not backup.done:
                backup.step(STEP_PAGES)
                progress(backup.page_count - backup.remaining, backup.page_count)


def _set_journal(path: Path, journal: str) -> None:
    with _closing(_open_there(path)) as connection:
        if connection.pragma("journal_mode", journal) != journal:
            raise apsw.CantOpenError(f"journal mode {journal} is refused")


def check_copy(path: Path) -> None:
    """`StoreCorruptError` if its pages are not sound."""
    with _closing(_open_there(path)) as connection:
        found = check_pages(connection, is_thorough=False, most_ms=None)
    if found.problems:
        raise StoreCorruptError(str(path), found.problems[0])


def _open_there(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)


@contextlib.contextmanager
def _closing(connection: apsw.Connection) -> Iterator[apsw.Connection]:
    try:
        yield connection
    finally:
        connection.close()


def sync_path(path: Path) -> None:
    """A file's content, or a folder's names, are on the platter."""
    opened = os.open(path, os.O_RDONLY)
    try:
        if _FULL_SYNC is not None:
            fcntl.fcntl(opened, _FULL_SYNC)
        else:
            os.fsync(opened)
    finally:
        os.close(opened)


def _clear_partials(target: Path) -> None:
    """What killed copies to this name have left. One whose process lives is let alone."""
    beginning = f".{target.name}.partial-"
    for left in list(target.parent.iterdir()):
        pid = left.name.removeprefix(beginning)
        if left.name.startswith(beginning) and pid.isdigit() and not _lives(int(pid)):
            _remove(left)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()  # then it is what another process of our number has left


def _remove(partial: Path) -> None:
    for ending in _BESIDE:
        partial.with_name(partial.name + ending).unlink(missing_ok=True)
