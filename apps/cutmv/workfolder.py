"""The folder in which one order is worked on: private, always removed, and swept up after those that were killed."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PREFIX: Final = "cutmv-"
LOCK: Final = "lock"


@contextlib.contextmanager
def work_folder(root: Path) -> Iterator[Path]:
    """A new folder below `root` that nobody else can read. Whoever is killed leaves it to `sweep`."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    try:
        with (folder / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            inner = folder / "work"
            inner.mkdir()
            yield inner
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> int:
    """Remove the folders whose owners are dead: the lock of the living cannot be taken. How many there were."""
    swept = 0
    for folder in root.glob(f"{PREFIX}*"):
        try:
            lock = (folder / LOCK).open("rb")
        except OSError:  # it is being made, or was removed just now
            continue
        with lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            swept += 1
    return swept
