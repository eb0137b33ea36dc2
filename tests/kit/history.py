"""A recorded history: what producers, handlers and whoever does them harm say, one line each, in one file that all
append to. `kit.checker` judges it.

A line is `moment what n id attempt key pid word=value ...`, with `-` for what does not apply. The moment is the
machine's monotonic clock, which all its processes share; `n` names a message in the test's own words, whatever its id.
One line is one write, so that a process that is killed leaves whole lines.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

NONE: Final = "-"


class What(StrEnum):
    SENDING = "sending"
    """About to be sent: from here on it may be there. Words: delay, dedupe, batch, crc."""
    SENT = "sent"
    """Confirmed."""
    START = "start"
    """A handler call, or the answer to a claim. Words: asked (when a claim was), crc, within (its
    process group, which its worker leads)."""
    END = "end"
    """It went well; its ack is still to come."""
    FAIL = "fail"
    """It raised."""
    CUT = "cut"
    """It was cancelled."""
    ACKED = "acked"
    """Its ack is confirmed."""
    KILLED = "killed"
    """The process `pid` was sent SIGKILL."""
    FROZEN = "frozen"
    """The process `pid` was sent SIGSTOP: what it says later is said by a sleepwalker."""
    ENDING = "ending"
    """The process `pid` was sent SIGTERM."""
    PAUSED = "paused"
    RESUMING = "resuming"
    PURGING = "purging"
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class Line:
    """One line."""

    at: float
    what: What
    n: str = NONE
    id: str = NONE
    attempt: int = 0
    key: str = NONE
    pid: int = 0
    words: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        words = "".join(f" {name}={value}" for name, value in self.words.items())
        return f"{self.at:.6f} {self.what} {self.n} {self.id} {self.attempt} {self.key} {self.pid}{words}\n"


class Recorder:
    """Appends to the history of a folder; by default, the one that the environment names."""

    def __init__(self, folder: Path | None = None) -> None:
        path = (folder or Path(os.environ["FOLDER"])) / "history"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, what: What, n: object = NONE, *, id: object = NONE, **words: object) -> None:
        self.note_all(what, [(n, id)], **words)

    def note_all(self, what: What, messages: Iterable[tuple[object, object]], **words: object) -> None:
        """One moment of several messages, in one write."""
        at, said = time.monotonic(), {name: str(value) for name, value in words.items()}
        attempt, key = int(said.pop("attempt", "0")), said.pop("key", NONE)
        pid = int(said.pop("pid", os.getpid()))
        lines = [str(Line(at, what, str(n), shown(id), attempt, key, pid, said)) for n, id in messages]
        os.write(self._file, "".join(lines).encode())

    @contextmanager
    def call(self, message: Any, **words: object) -> Iterator[None]:
        """A handler's call for one message, from its first line to its last."""
        import asyncio

        n = name_of(message.body)
        parts: dict[str, object] = {"id": message.id, "attempt": message.attempts, "key": key_of(message.body)}
        if isinstance(message.body, dict):
            words["crc"] = crc(message.body)
        self.note(What.START, n, **parts, within=os.getpgrp(), **words)
        try:
            yield
        except asyncio.CancelledError:
            self.note(What.CUT, n, **parts)
            raise
        except BaseException:
            self.note(What.FAIL, n, **parts)
            raise
        self.note(What.END, n, **parts)


def shown(id: object) -> str:
    """A store's id as handlers see it."""
    return id.hex() if isinstance(id, bytes) else str(id)


def name_of(body: Any) -> str:
    """A body is its own name, or has one under `n`."""
    return str(body["n"] if isinstance(body, dict) else body)


def key_of(body: Any) -> str:
    return str(body.get("key", NONE)) if isinstance(body, dict) else NONE


def crc(body: dict[str, Any]) -> str:
    """Of what a body carries beside its name."""
    return f"{zlib.crc32(str(body.get('pad', '')).encode()):08x}"


class Tail:
    """Reads a history while it is written."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "history"
        self._offset = 0

    def read(self) -> list[Line]:
        """What is new since the last look."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")[0]
        self._offset += len(whole) + bool(whole)
        return list(parse(whole.decode().splitlines()))


def read_history(folder: Path) -> list[Line]:
    """All of it, in the order in which it was written."""
    with (folder / "history").open(encoding="utf-8") as file:
        return list(parse(file.read().splitlines()))


def parse(lines: Iterable[str]) -> Iterator[Line]:
    for line in lines:
        at, what, n, id, attempt, key, pid, *words = line.split(" ")
        pairs = dict(word.split("=", 1) for word in words) if words else {}
        yield Line(float(at), What(what), n, id, int(attempt), key, int(pid), pairs)
