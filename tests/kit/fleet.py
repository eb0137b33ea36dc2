"""Real `conveyor work` trees on one store, for tests that kill them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


class Fleet:
    """`conveyor work` trees on one store, and a way to wait for what the store says."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.url = url or f"sqlite:///{folder}/store.db"
        self._running: list[subprocess.Popen[bytes]] = []

    def environment(self) -> dict[str, str]:
        return {**os.environ, "CONVEYOR_URL": self.url, "FOLDER": str(self.folder), "CONVEYOR_LOG": "json"}

    def write_app(self, text: str) -> None:
        (self.folder / "shop.py").write_text(text, encoding="utf-8")

    def work(self, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "conveyor", "work", "shop:app", *options]
        with (self.folder / "work.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment(), stderr=log, stdout=log)
        self._running.append(process)
        return process

    def start(self, name: str, code: str) -> subprocess.Popen[bytes]:
        """A program beside the app, that runs on."""
        (self.folder / f"{name}.py").write_text(code, encoding="utf-8")
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, f"{name}.py"]
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment(), stderr=log, stdout=log)
        self._running.append(process)
        return process

    def run(self, code: str) -> str:
        """A short program beside the app; what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self.folder, env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait_until(self, holds: Callable[[], bool], *, seconds: float = 60.0) -> None:
        """Look every 20 ms; fails with the fleet's log."""
        deadline = time.monotonic() + seconds
        while not holds():
            ended = [process.args for process in self._running if process.poll() is not None]
            if time.monotonic() > deadline or (ended and len(ended) == len(self._running)):
                log = (self.folder / "work.log").read_text()[-4000:]
                pytest.fail(f"not within {seconds} s, or no tree lives: {ended}\n{log}")
            time.sleep(0.02)

    def rest(self, seconds: float) -> None:
        """Let the fleet work on; for campaigns whose faults come by the clock."""
        time.sleep(seconds)

    def workers(self, tree: subprocess.Popen[bytes]) -> list[int]:
        """pids of the worker processes of a tree, oldest first."""
        children = Path(f"/proc/{tree.pid}/task/{tree.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in children.split()]

    def stop(self) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
