"""Peers as processes: one call, one answer; or worker processes that run until they are ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any, ClassVar

from bench.peers.marks import Watch

ROOT = Path(__file__).resolve().parent.parent
CALL_TIMEOUT_SECONDS = 300.0
END_TIMEOUT_SECONDS = 15.0
LOOK_EVERY_SECONDS = 0.02


class MeasureError(Exception):
    """A measurement that did not come about; the text says why."""


@dataclass(frozen=True)
class Facts:
    """What a peer says of itself (see peers/contract.py)."""

    name: str
    store: str
    versions: Mapping[str, str]
    settings: str
    drained: int
    callers: str
    loop: str
    ways: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Program:
    """A peer under its Python; `modules` are the folders in which its module is looked for besides the project's."""

    target: str
    python: str
    facts: Facts | None = None
    modules: tuple[str, ...] = ()

    @property
    def known(self) -> Facts:
        assert self.facts is not None, "it was introduced"
        return self.facts

    @property
    def name(self) -> str:
        return self.known.name

    def call(self, verb: str, url: str, *, patience: float = 0.0, **options: object) -> dict[str, Any]:
        """Run one verb to its end in a fresh process; it may take `patience` seconds longer than others."""
        timeout = CALL_TIMEOUT_SECONDS + patience
        try:
            done = subprocess.run(
                [*self._script(verb), "--url", url, *_flags(options)],
                cwd=ROOT,
                env=self._environment(),
                check=False,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise MeasureError(f"{self.target} {verb}: no answer within {timeout:.0f} s") from error
        if done.returncode:
            raise MeasureError(f"{self.target} {verb}: {_last_line(done.stderr)}")
        answer: dict[str, Any] = json.loads(done.stdout)
        if self.facts is not None and answer["loop"] != self.facts.loop:
            raise MeasureError(f"{self.target} {verb}: ran on the loop of {answer['loop']}, not {self.facts.loop}")
        return answer

    @contextmanager
    def begin(self, verb: str, url: str, log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
        """A verb beside other things; ended when the block ends, unless it has ended by itself."""
        command = [*self._script(verb), "--url", url, *_flags(options)]
        process = _spawn(command, self._environment(), log)
        try:
            yield process
        finally:
            _end([process])

    @contextmanager
    def worker(self, url: str, marks: Path, way: str, processes: int = 1) -> Iterator[Worker]:
        """The peer's worker processes, ended (with all they started) when the block ends."""
        log = marks.with_suffix(".log")
        spawned = monotonic()
        running = [_spawn(command, env, log) for command, env in self._work_commands(url, marks, way, processes)]
        worker = Worker(running, marks, log, spawned)
        try:
            yield worker
        finally:
            _end(running)

    def _script(self, verb: str) -> list[str]:
        return [self.python, "-m", "bench.peers", self.target, verb]

    def _work_commands(
        self, url: str, marks: Path, way: str, processes: int
    ) -> Sequence[tuple[list[str], dict[str, str]]]:
        settings = json.dumps(dict(self.known.ways[way]))
        command = [*self._script("work"), "--url", url, "--marks", str(marks), "--settings", settings]
        return [(command, self._environment()) for _ in range(processes)]

    def _environment(self, **extra: str) -> dict[str, str]:
        """The project on the path, and no settings of the caller's own conveyor."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CONVEYOR_")}
        path = os.pathsep.join([str(ROOT), str(ROOT / "src"), *self.modules])
        return {**kept, "PYTHONPATH": path, "NO_COLOR": "1", **extra}


class ConveyorProgram(Program):
    """conveyor's worker is the command that users run."""

    application: ClassVar[str] = "bench.peers.conveyor_app:app"

    def _work_commands(
        self, url: str, marks: Path, way: str, processes: int
    ) -> Sequence[tuple[list[str], dict[str, str]]]:
        script = str(Path(sysconfig.get_path("scripts")) / "conveyor")
        command = [script, "work", self.application, "--processes", str(processes)]
        handler = "batch" if self.known.ways[way].get("batch") else "message"
        environment = self._environment(CONVEYOR_URL=url, BENCH_MARKS=str(marks), BENCH_HANDLER=handler)
        return [(command, environment)]


@dataclass
class Worker:
    """Running worker processes, and what they wrote if they fell over."""

    processes: list[subprocess.Popen[bytes]]
    marks: Path
    log: Path
    spawned: float
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.marks)

    def wait_calls(self, count: int, timeout: float) -> None:
        """Until the handler was called so often."""
        deadline = monotonic() + timeout
        while (calls := self.watch.calls()) < count:
            self.check_alive()
            if monotonic() > deadline:
                raise MeasureError(f"handled {calls:,} of {count:,} in {timeout:.0f} s; {self._said()}")
            sleep(LOOK_EVERY_SECONDS)

    def check_loop(self, stated: str) -> None:
        """The loop that the report names is the one that the worker noted beside its marks."""
        noted = self.marks.with_suffix(".loop")
        found = noted.read_text() if noted.exists() else ""
        if found and found != stated:
            raise MeasureError(f"worked on the event loop of {found}, not {stated}")

    def check_alive(self) -> None:
        for process in self.processes:
            if process.poll() is not None:
                raise MeasureError(f"worker ended with {process.returncode}: {self._said()}")

    def _said(self) -> str:
        return _last_line(self.log.read_text(errors="replace"))


def this_python() -> str:
    return sys.executable


def _spawn(command: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )


def _flags(options: Mapping[str, object]) -> list[str]:
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "(it said nothing)"


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask, wait, then kill: each group is the one that `start_new_session` made for this process alone."""
    for process in processes:
        process.terminate()
    deadline = monotonic() + END_TIMEOUT_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
