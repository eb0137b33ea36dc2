"""Disks to be harmed: file systems of the test's own, which only root may mount; elsewhere their tests are skipped."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system in memory, that may be filled without harm to others."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class Disk:
    """An ext4 file system in a file. A copy of the file is what a power cut would leave of it."""

    def __init__(self, size: str = "512M") -> None:
        for name in ("truncate", "mkfs.ext4", "mount"):
            if shutil.which(name) is None:
                pytest.skip(f"a disk in a file needs `{name}`")
        self._folder = Path(tempfile.mkdtemp(prefix="conveyor-disk-"))
        self._folder.chmod(0o755)  # a server of another user lives there
        self._places: list[Path] = []
        self._image = self._folder / "image"
        subprocess.run(["truncate", "-s", size, self._image], check=True)
        subprocess.run(["mkfs.ext4", "-qF", self._image], check=True)
        self.place = self._mount(self._image, "before")

    def cut(self) -> Path:
        """Where the disk is found again after a power cut now; whoever writes to it must have been stopped."""
        after = self._folder / "image-after"
        subprocess.run(["cp", "--sparse=always", self._image, after], check=True)
        return self._mount(after, "after")

    def close(self) -> None:
        for place in self._places:
            subprocess.run(["umount", "-l", place], check=False)
        shutil.rmtree(self._folder)

    def _mount(self, image: Path, name: str) -> Path:
        place = self._folder / name
        place.mkdir()
        _mount("-o", "loop", str(image), str(place))
        self._places.append(place)
        return place


def _mount(*words: str) -> None:
    if os.geteuid() != 0 or subprocess.run(["mount", *words], check=False, capture_output=True).returncode:
        pytest.skip("a disk to be harmed is a mount, and only root may mount one")
