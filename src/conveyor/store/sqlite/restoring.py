"""Puts a backup into a store's place. What was there is kept aside, whole, with its WAL if it could not be moved in.

The order matters: a new file beside an old `-wal` would be read as one, and that is corruption. So the old file's WAL
is emptied or moved away first, and the name changes hands last, in one step.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import apsw

from conveyor.model.errors import ConflictError, StoreInUseError, StoreUnsupportedError
from conveyor.store.keeping import Copied, Progress
from conveyor.store.migrate import compare_schema
from conveyor.store.sqlite.checkup import count_living_owners
from conveyor.store.sqlite.clock import wall_ms
from conveyor.store.sqlite.connection import look_into, translate
from conveyor.store.sqlite.copying import make_copy, put_in_place, sync_path
from conveyor.store.sqlite.opening import check_place, read_applied

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def restore_file(source: Path, path: Path, *, is_forced: bool, progress: Progress) -> Copied:
    """Owners in the backup are not alive: nobody renews them, their leases lapse, and the first sweep ends them as
    lost."""
    _check_source(source, path)
    check_place(path)
    if not is_forced:
        _check_unused(path)
    with make_copy(source, path, journal="wal", progress=progress) as partial:
        _dress_as(partial, path)
        copied_bytes = partial.stat().st_size
        _seal(path, is_forced=is_forced)
        kept = _keep_aside(path)
        put_in_place(partial, path)
    return Copied(path=str(path), copied_bytes=copied_bytes, kept=None if kept is None else str(kept))


def _check_source(source: Path, path: Path) -> None:
    if path.exists() and source.exists() and source.samefile(path):
        raise ConflictError(f"`{source}` is the store itself", hint="name a file that `conveyor backup` made")
    if not path.parent.is_dir():
        raise StoreUnsupportedError(f"folder `{path.parent}` does not exist", hint=f"mkdir -p {path.parent}")
    check_backup(source)


def check_backup(source: Path) -> None:
    """`StoreUnsupportedError` unless it is a store that this release understands; a `StoreError` if it is damaged."""
    if not source.is_file():
        raise StoreUnsupportedError(f"there is no file at `{source}`", hint="name a file that `conveyor backup` made")
    try:
        connection = look_into(source)
        try:
            schema = compare_schema("sqlite", read_applied(connection))
        finally:
            connection.close()
    except apsw.Error as error:
        raise translate(error, source) from error
    if schema.problem is not None:
        raise StoreUnsupportedError(f"`{source}`: {schema.problem}", hint=schema.hint)
    if not schema.applied:
        raise StoreUnsupportedError(f"`{source}` is no conveyor store", hint="name a file that `conveyor backup` made")


def _check_unused(path: Path) -> None:
    """A store that is damaged cannot tell; then nobody is asked."""
    with contextlib.suppress(apsw.Error):
        living = count_living_owners(path)
        if living:
            raise StoreInUseError(str(path), f"{living} living worker process(es)")


def _seal(path: Path, *, is_forced: bool) -> None:
    """See to it that nobody has the file open, and that all that was committed lies in it, not in its WAL."""
    if not path.exists():
        return
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # keep the WAL of a damaged file
            connection.pragma("locking_mode", "exclusive")
            connection.execute("BEGIN EXCLUSIVE")  # an idle connection of anybody's is in the way of this
            connection.execute("COMMIT")
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()
    except apsw.BusyError as error:
        if not is_forced:
            raise StoreInUseError(str(path), "another process") from error
    except apsw.Error:  # damaged: then its WAL is kept beside it
        return


def _keep_aside(path: Path) -> Path | None:
    """Under a second name, so that the first is never empty; the new file takes that over."""
    kept = None
    if path.exists():
        stamp = (_EPOCH + timedelta(milliseconds=wall_ms())).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        kept = path.with_name(f"{path.name}.before-restore-{stamp}Z")
        try:
            kept.hardlink_to(path)
        except OSError:  # a file system without links
            path.rename(kept)
        for ending in ("-wal", "-journal"):
            left = path.with_name(path.name + ending)
            if left.exists() and left.stat().st_size > 0:
                left.rename(kept.with_name(kept.name + ending))
    for ending in ("-wal", "-journal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    sync_path(path.parent)
    return kept


def _dress_as(partial: Path, path: Path) -> None:
    """Whoever could use the old file can use the new one."""
    model = path if path.exists() else path.parent
    found = model.stat()
    partial.chmod(found.st_mode & 0o777 if model is path else 0o600)
    if os.geteuid() == 0:
        os.chown(partial, found.st_uid, found.st_gid)
