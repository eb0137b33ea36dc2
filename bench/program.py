"""Peer programs as processes: one call, one answer; or a worker that runs until it is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from bench.peers.marks import read_marks

ROOT = Path(__file__).resolve().parent.parent
CALL_TIMEOUT_SECONDS = 300.0
END_TIMEOUT_SECONDS = 5.0
LOOK_EVERY_SECONDS = 0.05


class MeasureError(Exception):
    """A measurement that did not come about; the text says why."""


@dataclass(frozen=True)
class Program:
    """A peer script under its Python."""

    name: str
    python: str
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""

    def call(self, verb: str, file: Path, **options: object) -> dict[str, Any]:
        """Run one verb to its end in a fresh process."""
        command = [*self._script(), verb, "--file", str(file), *_flags(options)]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=_environment(),
                check=False,
                capture_output=True,
                text=True,
                timeout=CALL_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise MeasureError(f"{self.name} {verb}: no answer within {CALL_TIMEOUT_SECONDS:.0f} s") from error
        if done.returncode:
            raise MeasureError(f"{self.name} {verb}: {_last_line(done.stderr)}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @contextmanager
    def worker(self, file: Path, marks: Path, workers: int = 1, handler: str = "message") -> Iterator[Worker]:
        """The peer's worker, ended (with all it started) when the block ends."""
        command, extra = self._worker_command(file, marks, workers, handler)
        log = marks.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=_environment(extra), stdout=output, stderr=output, start_new_session=True
            )
        try:
            yield Worker(process, log)
        finally:
            _end(process)

    def _script(self) -> list[str]:
        return [self.python, "-m", f"bench.peers.{self.name}_peer"]

    def _worker_command(
        self, file: Path, marks: Path, workers: int, handler: str
    ) -> tuple[list[str], Mapping[str, str]]:
        flags = ["--file", str(file), "--marks", str(marks), "--workers", str(workers)]
        return [*self._script(), "work", *flags], {}


class ConveyorProgram(Program):
    """conveyor's worker is the command that users run."""

    def _worker_command(
        self, file: Path, marks: Path, workers: int, handler: str
    ) -> tuple[list[str], Mapping[str, str]]:
        script = str(Path(sysconfig.get_path("scripts")) / "conveyor")
        command = [script, "work", "bench.peers.conveyor_app:app", "--processes", str(workers)]
        url = f"sqlite:///{file}"
        return command, {"CONVEYOR_URL": url, "BENCH_MARKS": str(marks), "BENCH_HANDLER": handler}


@dataclass
class Worker:
    """A running worker, and what it wrote if it fell over."""

    process: subprocess.Popen[bytes]
    log: Path
    spawned: float = field(default_factory=monotonic)

    def wait_handled(self, marks: Path, first: int, count: int, timeout: float) -> list[int]:
        """The moments of messages first..first+count-1, once all of them were handled."""
        deadline = monotonic() + timeout
        while True:
            times = read_marks(marks)[first : first + count]
            if 0 not in times:
                return times
            self.check_alive()
            if monotonic() > deadline:
                raise MeasureError(f"handled {count - times.count(0)} of {count} in {timeout:.0f} s; {self._said()}")
            sleep(LOOK_EVERY_SECONDS)

    def check_loop(self, stated: str) -> None:
        """The loop that the report names is the one that the worker noted beside its marks."""
        noted = self.log.with_suffix(".loop")
        check_loop(noted.read_text() if noted.exists() else "", stated)

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            raise MeasureError(f"worker ended with {self.process.returncode}: {self._said()}")

    def _said(self) -> str:
        return _last_line(self.log.read_text(errors="replace"))


def check_loop(found: str, stated: str) -> None:
    """What the report says about the event loop is checked, not believed."""
    if found.partition(".")[0] != stated:
        raise MeasureError(f"ran on the event loop of {found or 'nobody knows what'}, not {stated}")


def this_python() -> str:
    return sys.executable


def _environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The project on the path, and no settings of the caller's own conveyor."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONVEYOR_")}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **(extra or {})}


def _flags(options: Mapping[str, object]) -> list[str]:
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "(it said nothing)"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask, wait, then kill: the group is the one that `start_new_session` made for this worker alone."""
    process.terminate()
    try:
        process.wait(END_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
