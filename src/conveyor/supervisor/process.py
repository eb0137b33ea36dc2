"""One child process as its supervisor sees it: started, spoken to over a socket, watched, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from typing import Final

import msgspec

from conveyor.queue.board import Board

CONTROL_BYTES_MAX: Final = 4_096


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a child says to its supervisor."""

    ready: bool = False
    """It has loaded the app and begun."""
    stuck: list[int] = []
    """seqs of a call that ignored its cancellation: the child must be killed for it."""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a child ended."""

    code: int | None = None
    signal: int | None = None
    stopped: bool = False
    """It did not end: somebody stopped it (SIGSTOP), which is as good as dead."""

    @property
    def detail(self) -> str:
        if self.stopped:
            return "stopped"
        if self.signal is not None:
            return f"killed by signal {self.signal} ({signal.Signals(self.signal).name})"
        return f"exited with code {self.code}"


class ChildProcess:
    """A process group of its own, with a control socket whose end tells it that the supervisor is gone."""

    def __init__(self, command: Sequence[str], *, board: Board | None, owner: int) -> None:
        self.board = board
        self.owner = owner
        self.is_ready = False
        self.stuck: list[int] = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        self._control = ours
        passed = [theirs.fileno(), *([board.fd] if board is not None else [])]
        numbers = ["--control", str(theirs.fileno()), *(["--board", str(board.fd)] if board is not None else [])]
        with contextlib.closing(theirs):
            self._process = subprocess.Popen(
                [*command, *numbers], pass_fds=passed, start_new_session=True, stdin=subprocess.DEVNULL
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """To be told when it says something."""
        return self._control.fileno()

    def hear(self) -> None:
        """Read what it has said."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                payload = self._control.recv(CONTROL_BYTES_MAX)
                if not payload:
                    return
                report = msgspec.json.decode(payload, type=Report)
                self.is_ready = self.is_ready or report.ready
                self.stuck += report.stuck

    def look(self) -> Exit | None:
        """How it ended, if it did; looks once, without waiting."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return _exit(self._process.returncode)
        if pid == 0:
            return None
        if os.WIFSTOPPED(status):
            return Exit(stopped=True)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return _exit(self._process.returncode)

    def terminate(self) -> None:
        """Ask it to end in good order."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """After `kill`: until it is gone."""
        if self._process.returncode is None:
            with contextlib.suppress(ChildProcessError):
                _, status = os.waitpid(self.pid, 0)
                self._process.returncode = os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Give back what it held here. Its group goes too: what a dead worker started must not run on."""
        self.kill()
        self._control.close()
        if self.board is not None:
            self.board.close()


def _exit(code: int) -> Exit:
    return Exit(signal=-code) if code < 0 else Exit(code=code)


class Control:
    """A child's end of the socket."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def say(self, report: Report) -> None:
        with contextlib.suppress(OSError):
            self._socket.send(msgspec.json.encode(report))

    def wait_until_orphaned(self) -> None:
        """Block until the supervisor is gone."""
        with contextlib.suppress(OSError):
            while self._socket.recv(CONTROL_BYTES_MAX):
                pass
