"""One child process as its supervisor sees it: started, spoken to over a socket, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import msgspec

from conveyor.model.errors import ConveyorError, StoreAwayError, StoreBusyError
from conveyor.queue.board import Board

CONTROL_BYTES_MAX: Final = 4_096
CHILD_FAILED: Final = 3
"""Exit code of a child that could not load its app: no use to start it again."""
CHILD_DELAYED: Final = 5
"""Exit code of a child whose store is away: another may have better luck."""
ORPHANED: Final = 4
"""Exit code of a child whose supervisor is gone."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a child says to its supervisor."""

    ready: bool = False
    """It has loaded the app and begun."""
    done: bool = False
    """It ended in good order. Without this word an exit code of 0 is a handler's `os._exit(0)`."""
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
        return "ended, nobody knows how" if self.code is None else f"exited with code {self.code}"


class ChildProcess:
    """A process group of its own, with a control socket whose end tells it that the supervisor is gone."""

    def __init__(self, command: Sequence[str], *, board: Board | None, owner: int, started_at: float) -> None:
        self.board = board
        self.owner = owner
        self.started_at = started_at
        self.is_ready = False
        self.is_done = False
        self.is_cut = False
        """We ended it, for no fault of its own."""
        self.is_bereft = False
        """Somebody has given its messages away, so we ended it."""
        self.is_silent = False
        """It has closed its end: it will never say anything again."""
        self.stuck: list[int] = []
        self._heard = b""
        ours, theirs = socket.socketpair()  # a stream: only that tells its reader that the other end is gone
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
        try:
            while payload := self._control.recv(CONTROL_BYTES_MAX):
                self._heard += payload
            self.is_silent = True
        except BlockingIOError:
            pass
        except OSError:
            self.is_silent = True
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError):  # a handler wrote to what is none of its business
                self._take(msgspec.json.decode(line, type=Report))

    def _take(self, report: Report) -> None:
        self.is_ready = self.is_ready or report.ready
        self.is_done = self.is_done or report.done
        self.stuck += report.stuck

    def look(self) -> Exit | None:
        """How it ended, if it did; looks once, without waiting."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:  # somebody else has taken its last word
            return Exit() if self._process.returncode is None else _exit(self._process.returncode)
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

    def cut(self) -> None:
        """End it at once, for no fault of its own."""
        self.is_cut = True
        self.kill()
        self.wait()

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
            self._socket.sendall(msgspec.json.encode(report) + b"\n")

    def wait_until_orphaned(self) -> None:
        """Block until the supervisor is gone."""
        with contextlib.suppress(OSError):
            while self._socket.recv(CONTROL_BYTES_MAX):
                pass


def ignore_signal(_number: int, _frame: object) -> None:
    """As SIG_IGN, which what a handler starts would inherit."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def end_badly(error: Exception) -> NoReturn:
    """In a child that cannot begin: our own errors in a line with a hint, an app's with its trace. Only a store that is
    away is worth a second try."""
    if isinstance(error, ConveyorError):
        hint = f"\n  hint: {error.hint}" if error.hint else ""
        print(f"conveyor: {error.message} [{error.code}]{hint}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.exit(CHILD_DELAYED if isinstance(error, StoreAwayError | StoreBusyError) else CHILD_FAILED)
