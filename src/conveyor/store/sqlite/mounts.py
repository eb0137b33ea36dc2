"""Which kind of file system a folder lies on, as Linux tells; other systems do not, and then nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")


def file_system_of(folder: Path) -> str | None:
    """`ext4`, `nfs4`, `fuse.sshfs`, `overlay`, ...; None where the system does not tell."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        return find_kind(str(folder.resolve()), mounts)
    except OSError:
        return None


def find_kind(folder: str, mounts: str) -> str | None:
    """The kind of the deepest mount above an absolute path; of two at one place the later one covers the earlier."""
    deepest, kind = "", None
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        words = left.split(" ")
        if len(words) < 5 or not right:
            continue
        point = _unescaped(words[4])
        if len(point) >= len(deepest) and (folder == point or folder.startswith(point.rstrip("/") + "/")):
            deepest, kind = point, right.split(" ")[0]
    return kind


def _unescaped(point: str) -> str:
    for code, sign in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        point = point.replace(code, sign)
    return point
