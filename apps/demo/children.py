"""The demo's child processes: started with a log file, waited for, and always ended, the last one first."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .interrupts import Interrupts
from .settings import DemoError

START_S_MAX: Final = 30.0
STOP_S_MAX: Final = 8.0
POLL_S: Final = 0.05
TAIL_LINES: Final = 15
PORT_WANTED: Final = 8787


class Child:
    """One process in a group of its own, so that Ctrl-C reaches the demo alone and nobody is left behind."""

    def __init__(self, name: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self.patience_s = STOP_S_MAX
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-u", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait for it to be ready; `DemoError` with the end of its log if it dies or dawdles."""
        deadline = time.monotonic() + START_S_MAX
        while not is_ready():
            if self._process.poll() is not None:
                raise DemoError(f"{self.name} ended with code {self._process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise DemoError(f"{self.name} was not ready after {START_S_MAX:.0f} s:\n{self.tail()}")
            time.sleep(POLL_S)

    def check_alive(self) -> None:
        """`DemoError` if it has died."""
        if self._process.poll() is not None:
            raise DemoError(f"{self.name} ended with code {self._process.returncode}:\n{self.tail()}")

    def text(self) -> str:
        """All it has written."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tail(self) -> str:
        """The end of what it has written."""
        return "\n".join(self.text().splitlines()[-TAIL_LINES:])

    def stop(self) -> None:
        """Ask it to end, then insist; its own children go with it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(self.patience_s)
            except subprocess.TimeoutExpired:
                pass
        self._signal_group(signal.SIGKILL)
        self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return


class Children:
    """All children of one demo, for the length of a `with` block."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._interrupts.ignored():
            while self._children:
                self._children.pop().stop()

    def start(self, name: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> Child:
        """Start one more."""
        with self._interrupts.held():
            child = Child(name, arguments, log=log, environment=environment)
            self._children.append(child)
        return child

    def check_alive(self) -> None:
        """`DemoError` if one has died."""
        for child in self._children:
            child.check_alive()


def free_port() -> int:
    """The usual port if nobody has it, otherwise any."""
    for port in (PORT_WANTED, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("no free port on 127.0.0.1")
