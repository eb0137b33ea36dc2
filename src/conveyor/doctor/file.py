"""Checks of an SQLite store's file: the library, the disk, and whether its pages are sound."""

from __future__ import annotations

from typing import Final

from conveyor.doctor.finding import Finding, fail, fine, show_bytes, warn
from conveyor.store.facts import NETWORK_FILE_SYSTEMS, WAL_BYTES_MAX, FileFacts

FREE_BYTES_MIN: Final = WAL_BYTES_MAX
FREE_BYTES_GOOD: Final = 1_000_000_000
_SYNCHRONOUS_FULL: Final = 2
_SHAKY: Final = ("fuse", "overlay", "9p", "virtiofs", "vboxsf", "tmpfs", "ramfs")
"""Kinds (and their beginnings) that lock in their own way, or forget."""
_FORGETS: Final = {"overlay": "goes with its container", "tmpfs": "goes with a restart", "ramfs": "goes with a restart"}


def library(file: FileFacts) -> Finding:
    if file.library_is_safe:
        return fine("library", f"SQLite {file.library}")
    return fail("library", f"SQLite {file.library} can corrupt a WAL file", "install apsw 3.51.3 or newer")


def access(file: FileFacts) -> Finding:
    if not file.exists:
        return fail("file", f"there is no store at `{file.path}`", "say where with `--url` or CONVEYOR_URL")
    if not file.readable:
        return fail("file", f"`{file.path}` cannot be read", "check its owner and mode")
    if not file.writable:
        return fail("file", f"`{file.path}` or its folder cannot be written", "check the owner and mode of both")
    return fine("file", f"`{file.path}`, {show_bytes(file.file_bytes)}")


def file_system(file: FileFacts) -> Finding:
    kind = file.file_system
    if kind is None:
        return fine("file system", "this system does not tell which kind it is")
    if kind in NETWORK_FILE_SYSTEMS:
        return fail("file system", f"{kind}: SQLite's WAL mode corrupts over a network", "put the file on a local disk")
    if kind.startswith(_SHAKY):
        why = _FORGETS.get(kind, "may not lock as SQLite needs it")
        return warn("file system", f"{kind}: the file {why}", "put the file on a local disk, or a volume of one")
    return fine("file system", kind)


def integrity(file: FileFacts) -> Finding | None:
    found = file.integrity
    if found is None:
        return None
    if found.problems:
        more = f", and {len(found.problems) - 1} more" if len(found.problems) > 1 else ""
        hint = "stop all processes, and `conveyor restore` the last backup"
        return fail("integrity", f"damaged: {_line(found.problems[0])}{more}", hint)
    if not found.is_complete:
        return warn("integrity", "nothing found in 30 s, but not all was looked at", "look at all with `--thorough`")
    return fine("integrity", "integrity_check is ok" if found.is_thorough else "quick_check is ok")


def journal(file: FileFacts) -> Finding | None:
    if file.journal_mode is None:
        return None
    if file.journal_mode != "wal":
        found = f"journal mode is {file.journal_mode}, not wal"
        return warn("journal", found, "the next opening sets it; see who changes it")
    if file.synchronous != _SYNCHRONOUS_FULL:
        return fail("journal", f"synchronous is {file.synchronous}, not FULL", "this SQLite does not take the setting")
    return fine("journal", "wal, synchronous=FULL")


def wal(file: FileFacts) -> Finding | None:
    if not file.exists:
        return None
    if file.wal_bytes <= WAL_BYTES_MAX:
        return fine("wal", show_bytes(file.wal_bytes))
    hint = "look for a process that holds a transaction open: a backup tool, a shell, a debugger"
    return fail("wal", f"{show_bytes(file.wal_bytes)}, the bound is {show_bytes(WAL_BYTES_MAX)}", hint)


def disk(file: FileFacts) -> Finding:
    found = f"{show_bytes(file.free_bytes)} free"
    if file.free_bytes < FREE_BYTES_MIN:
        return fail("disk", found, "free some space: sends fail when it is full, and work goes on without a restart")
    if file.free_bytes < FREE_BYTES_GOOD:
        return warn("disk", found, "free some space before it is full")
    return fine("disk", found)


def wake_ups(file: FileFacts) -> Finding | None:
    if file.wakes is None:
        return None
    if file.wakes:
        return fine("wake-ups", "a datagram came through")
    hint = "let one user own `conveyor-*` in the temporary directory; until then polls find messages within 1 s"
    return warn("wake-ups", "processes cannot wake each other", hint)


def _line(text: str) -> str:
    """SQLite's own words, on one line."""
    return " ".join(text.split())[:200]
