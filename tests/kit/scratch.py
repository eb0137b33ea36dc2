"""Where a test run puts what is temporary: a folder of its own, in memory where there is plenty, gone afterwards.

A store syncs at every commit, and a disk that is shared answers when it can; in memory that costs nothing. What a
killed run leaves, its servers too, the next one ends and removes: the kernel says who is gone, by a lock.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Final

PREFIX: Final = "conveyor-tests-"
LOCK: Final = "lock"
RAM: Final = Path("/dev/shm")  # noqa: S108 a folder of one's own is made in it, where there is one
ROOM_BYTES: Final = 6 * 2**30
"""That much must be free in memory, and in the file system there."""
_locks: list[int] = []


def settle_in() -> None:
    """Everything temporary of this process, and of those that it starts, goes to a folder of its own from now on. The
    folders of failed tests outlive it, where pytest keeps them."""
    base = _base()
    sweep(base)
    folder = make_scratch(base)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(base))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def make_scratch(base: Path) -> Path:
    """A folder that `sweep` leaves alone while this process lives."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        folder.chmod(0o711)  # servers of another user live there
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_WRONLY, 0o600)
        if _take(lock) and (folder / LOCK).exists():  # nobody swept it in between
            _locks.append(lock)
            return folder
        os.close(lock)


def sweep(base: Path) -> None:
    """Remove the folders of runs that were killed, and end the servers that live in them."""
    for folder in base.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):  # another's, or gone already
            lock = os.open(folder / LOCK, os.O_WRONLY | os.O_NOFOLLOW)
            try:
                if folder.lstat().st_uid == os.getuid() and _take(lock):
                    _end_servers(folder)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _base() -> Path:
    """In memory, if programs may be started from there; else where this machine puts such things."""
    if "TMPDIR" not in os.environ and RAM.is_dir() and os.access(RAM, os.W_OK):
        there = os.statvfs(RAM)
        if not there.f_flag & os.ST_NOEXEC and min(there.f_bavail * there.f_frsize, _available_bytes()) > ROOM_BYTES:
            return RAM
    return Path(tempfile.gettempdir())


def _available_bytes() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_servers(folder: Path) -> None:
    """PostgreSQL's and PgBouncer's, each of which names its process in a file."""
    for file in (*folder.glob("*/data/postmaster.pid"), *folder.glob("conveyor-pgbouncer-*/pid")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            process = int(file.read_text(encoding="utf-8").split("\n")[0])
            if str(file.parent).encode() in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGQUIT)
