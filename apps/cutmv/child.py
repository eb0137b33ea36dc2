"""Runs one program under limits, in a process group of its own, and leaves nothing of it behind."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import MediaError, ToolError

STDOUT_BYTES_MAX: Final = 1 << 20
STDERR_BYTES: Final = 4_096
"""Of the end of it, for the log."""
LINE_BYTES_MAX: Final = 1 << 16

LIMITS: Final = {
    "File too large": "The result would be larger than is allowed.",
    "Cannot allocate memory": "This file needs more memory than is allowed.",
}
"""What FFmpeg says at a limit, and what we say."""
SIGNALLED: Final = 255
"""How FFmpeg ends of its own after a signal; the only one that it gets is the one of its processor time."""
UNREADABLE: Final = (
    "Invalid data found", "moov atom not found", "Invalid argument", "not allowed", "not in whitelist",
    "not on whitelist", "does not contain any stream", "matches no streams", "could not find codec",
    "Decoder not found", "Conversion failed", "Error while decoding", "Picture size", "Invalid NAL", "End of file",
    "Nothing was written", "partial file",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one child may use."""

    memory_bytes: int = 2 << 30
    cpu_s: int = 3_600
    file_bytes: int = 2 << 30
    """Of one file that it writes."""
    wall_s: float = 3_600.0


class _Tail:
    """The end of what was written to stderr."""

    def __init__(self) -> None:
        self._bytes = b""

    async def read(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(4_096):
            self._bytes = (self._bytes + chunk)[-STDERR_BYTES:]

    def text(self) -> str:
        return self._bytes.decode("utf-8", "replace").strip()


async def run_child(
    argv: Sequence[str], *, limits: Limits, folder: Path, on_line: Callable[[str], None] | None = None
) -> str:
    """What it printed, 1 MiB at most; with `on_line` nothing, but each line as it comes. stderr follows in the string
    after a NUL. `MediaError` if it failed because of its input or a limit, `ToolError` if for another reason. However
    this ends, the child and its group are gone."""
    process = await _start(argv, limits, folder)
    tail = _Tail()
    assert process.stdout is not None
    assert process.stderr is not None
    listening = asyncio.create_task(tail.read(process.stderr))
    try:
        async with asyncio.timeout(limits.wall_s):
            printed = await _read(process.stdout, on_line)
            code = await process.wait()
            await listening
    except TimeoutError:
        raise MediaError("This file takes longer than is allowed.") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
        listening.cancel()
    if code != 0:
        raise _judge(code, tail.text())
    return f"{printed}\0{tail.text()}"


async def _start(argv: Sequence[str], limits: Limits, folder: Path) -> Process:
    confine = [sys.executable, "-I", "-S", str(Path(__file__).with_name("confine.py"))]
    numbers = [limits.memory_bytes, limits.cpu_s, limits.file_bytes, os.getpid()]
    return await asyncio.create_subprocess_exec(
        *confine, *map(str, numbers), *argv,
        stdin=DEVNULL, stdout=PIPE, stderr=PIPE, cwd=folder, start_new_session=True, limit=LINE_BYTES_MAX,
        env={"PATH": os.defpath, "LC_ALL": "C", "HOME": str(folder), "TMPDIR": str(folder), "MALLOC_ARENA_MAX": "2"},
    )  # fmt: skip


async def _read(stream: asyncio.StreamReader, on_line: Callable[[str], None] | None) -> str:
    if on_line is not None:
        while line := await stream.readline():
            on_line(line.decode("ascii", "replace").strip())
        return ""
    printed = bytearray()
    while chunk := await stream.read(1 << 16):
        printed += chunk
        if len(printed) > STDOUT_BYTES_MAX:
            raise MediaError("This file describes itself at more length than is allowed.")
    return printed.decode("utf-8", "replace")


def _judge(code: int, said: str) -> MediaError | ToolError:
    for sign, words in LIMITS.items():
        if sign in said:
            return MediaError(words)
    if code == -signal.SIGXCPU or (code == SIGNALLED and not said):
        return MediaError("This file takes more computing time than is allowed.")
    if code > 0 and any(sign in said for sign in UNREADABLE):
        return MediaError("The file is damaged, or is not what its name says.")
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return ToolError(f"FFmpeg {how}: {' '.join(said.split())[-300:]}")
