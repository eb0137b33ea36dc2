"""Tells the other processes of one file that a queue has work: a unix datagram to each, a hint that may be lost.

Every process that listens binds a socket in a folder that belongs to the file and the user. Who commits sends the names
of the woken queues to all of them. A poll runs beside it, so nothing depends on a datagram's arrival.

The last one out removes the folder, and the first one in removes those of other files whose processes have all died.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from conveyor.store.records import ANY_QUEUE

DATAGRAM_BYTES_MAX: Final = 4_096
_TICK_NS: Final = 50_000_000
_YOUNG_NS: Final = 1_000_000_000
_TRIES: Final = 100
_PREFIX: Final = "conveyor-"


class Postbox:
    """One process's end: `fileno` to read from, `ring` to tell the others."""

    def __init__(self, store_id: str) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getuid()}-{store_id[:16]}"
        self._own: str | None = None
        self._receiver: socket.socket | None = None
        self._sender: socket.socket | None = None
        self._listed: list[str] = []
        self._listed_at = 0

    def open(self) -> bool:
        """Whether datagrams work here; if not, polling alone does the work."""
        try:
            self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._own = f"{os.getpid()}-{id(self):x}"
            for _ in range(_TRIES):
                if not self._make_folder():
                    break
                with contextlib.suppress(FileNotFoundError):  # the last one out took it along meanwhile
                    self._receiver.bind(str(self._folder / self._own))
                    return True
        except OSError:
            pass
        self.close()
        return False

    def _make_folder(self) -> bool:
        """Whether the folder is this user's own."""
        try:
            os.mkdir(self._folder, mode=0o700)
        except FileExistsError:
            return _is_ours(self._folder)
        for left in self._folder.parent.glob(f"{_PREFIX}{os.getuid()}-*"):
            if left != self._folder:
                _remove_if_dead(left)
        return True

    @property
    def is_open(self) -> bool:
        """Whether this process listens."""
        return self._receiver is not None

    def fileno(self) -> int:
        assert self._receiver is not None
        return self._receiver.fileno()

    def ring(self, names: frozenset[str]) -> None:
        """Tell every other process that listens. Sockets of dead processes are swept away."""
        others = self._others()
        if not others:
            return
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        payload = _encode(names)
        for name in others:
            path = self._folder / name
            try:
                self._sender.sendto(payload, str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                _forget(path)
            except OSError:  # its buffer is full: then it is awake already
                continue

    def read(self, deliver: Callable[[frozenset[str]], None]) -> None:
        """Hand over the names that have arrived; `ANY_QUEUE` stands for all."""
        assert self._receiver is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                deliver(_decode(self._receiver.recv(DATAGRAM_BYTES_MAX)))

    def echoes(self) -> bool:
        """Whether a datagram to this very box arrives; for `conveyor doctor`."""
        if not self.open():
            return False
        heard: set[str] = set()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(_encode(frozenset({ANY_QUEUE})), str(self._folder / str(self._own)))
            self.read(heard.update)
        self.close()
        return ANY_QUEUE in heard

    def close(self) -> None:
        for each in (self._receiver, self._sender):
            if each is not None:
                each.close()
        if self._own is not None and _is_ours(self._folder):
            (self._folder / self._own).unlink(missing_ok=True)
            _remove_if_dead(self._folder)
        self._receiver = self._sender = self._own = None

    def _others(self) -> list[str]:
        """Listed anew when the folder has changed, or had changed so shortly before that its time could not tell."""
        try:
            found = os.lstat(self._folder)
            changed_at = found.st_mtime_ns
            if changed_at != self._listed_at:
                if not _is_own(found):
                    return []
                self._listed = [name for name in os.listdir(self._folder) if name != self._own]
                self._listed_at = changed_at if time.time_ns() - changed_at > _TICK_NS else 0
        except OSError:  # nobody has ever listened
            return []
        return self._listed


def _is_ours(folder: Path) -> bool:
    try:
        return _is_own(os.lstat(folder))
    except FileNotFoundError:
        return True  # then nothing in it can be another's


def _is_own(found: os.stat_result) -> bool:
    """A folder, and no link to one: where everybody may write, anybody may have put it."""
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _forget(path: Path) -> None:
    """Remove the socket of a dead process. A young one may be refused because it is being bound."""
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        if stat.S_ISSOCK(found.st_mode) and time.time_ns() - found.st_mtime_ns > _YOUNG_NS:
            os.unlink(path)


def _remove_if_dead(folder: Path) -> None:
    """Remove a folder of sockets to which nobody listens. Who binds one at this very moment makes the folder anew."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        if not _is_own(os.lstat(folder)):
            return
        for name in os.listdir(folder):
            path = folder / name
            try:
                probe.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                _forget(path)
            else:
                return  # somebody lives here
        os.rmdir(folder)


def _encode(names: frozenset[str]) -> bytes:
    text = "\n".join(names).encode()
    return text if len(text) <= DATAGRAM_BYTES_MAX else ANY_QUEUE.encode()


def _decode(payload: bytes) -> frozenset[str]:
    return frozenset(payload.decode("utf-8", "replace").split("\n"))
