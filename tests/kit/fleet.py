"""Real `conveyor work` trees and programs beside them on one store, for tests that do them harm and judge their history."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import pytest

from conveyor.model.errors import ConflictError
from conveyor.model.settings import QueueSettings
from conveyor.store.protocol import Store
from conveyor.store.records import QueueMetrics
from conveyor.store.urls import make_store
from conveyor.testing.factories import a_draft
from kit.checker import Placed, Rules, Verdict, judge
from kit.history import Line, Recorder, What, name_of, read_history, shown

T = TypeVar("T")
TESTS: Final = Path(__file__).resolve().parents[1]

PRELUDE: Final = """
import asyncio, os, random, signal, time
from conveyor import Batch, Conveyor, Message, Reject, Retry
from kit.history import Recorder, What

app = Conveyor("shop")
history = Recorder()
"""


class Fleet:
    """`conveyor work` trees on one store, and a way to wait for what the store says."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.url = url or f"sqlite:///{folder}/store.db"
        self.recorder = Recorder(folder)
        self._running: list[subprocess.Popen[bytes]] = []
        self._ending: list[subprocess.Popen[bytes]] = []

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        return {
            **os.environ,
            "CONVEYOR_URL": self.url,
            "FOLDER": str(self.folder),
            "CONVEYOR_LOG": "json",
            "PYTHONPATH": path,
        }

    def write_app(self, text: str) -> None:
        (self.folder / "shop.py").write_text(PRELUDE + text, encoding="utf-8")

    def work(self, *options: str, within: Path | None = None) -> subprocess.Popen[bytes]:
        """`conveyor work`, all of it within a control group if one is named."""
        command = [sys.executable, "-m", "conveyor", "work", "shop:app", *options]
        if within is not None:
            command = ["sh", "-c", f'echo $$ >{within}/cgroup.procs && exec "$@"', "sh", *command]
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

    def run(self, code: str, *, seconds: float | None = None) -> str:
        """A short program beside the app; what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run_herd(self, text: str, *, kills: int, seed: int, **options: Any) -> None:
        """`kit.herd` with the function `life` of this text."""
        words = "".join(f", {name}={value!r}" for name, value in options.items())
        head = PRELUDE + "from kit.herd import is_over, run_herd\nfrom conveyor.testing.factories import *\n"
        self.run(f"{head}{text}\nrun_herd(life, kills={kills}, seed={seed}{words})\n")

    # The store

    def ask(self, question: Callable[[Store], Awaitable[T]]) -> T:
        """What the store answers; opened for this question alone."""

        async def asking() -> T:
            store = make_store(self.url)
            await store.open()
            try:
                return await question(store)
            finally:
                await store.close()

        return asyncio.run(asking())

    def send(self, bodies: Iterable[Any], *, queue: str = "jobs", **settings: Any) -> None:
        """With their lines in the history. The queue is made if need be, with these settings."""

        async def sending(store: Store) -> None:
            with contextlib.suppress(ConflictError):
                await store.create_queue(queue, QueueSettings(**settings))
            for some in _portions(list(bodies), 500):
                drafts = [a_draft(queue=queue, body=msgspec.json.encode(body), key=_key(body)) for body in some]
                names = [(name_of(body), draft.id) for body, draft in zip(some, drafts, strict=True)]
                self.recorder.note_all(What.SENDING, names)
                await store.append(drafts)
                self.recorder.note_all(What.SENT, names)

        self.ask(sending)

    def metrics(self, queue: str = "jobs") -> QueueMetrics:
        return self.ask(lambda store: store.metrics(queue))

    def placed(self, queue: str) -> list[Placed]:
        """The messages that lie in a queue, by name and id."""

        async def looking(store: Store) -> list[Placed]:
            found: list[Placed] = []
            after = 0
            while page := await store.peek(queue, limit=1_000, after_seq=after):
                found += [(name_of(msgspec.json.decode(each.body)), shown(each.id)) for each in page]
                after = page[-1].seq
            return found

        return self.ask(looking)

    # Harm and judgement

    def kill(self, pid: int) -> None:
        self.recorder.note(What.KILLED, pid=pid)  # it lived until then
        os.kill(pid, signal.SIGKILL)

    def history(self) -> list[Line]:
        return read_history(self.folder)

    def judge(self, rules: Rules | None = None, *, queue: str = "jobs", dead: str | None = "jobs-dlq") -> Verdict:
        """The whole history, and what the store still has."""
        return judge(
            self.history(), rules, left=self.placed(queue), dead=self.placed(dead) if dead is not None else ()
        )

    def wait_until(self, holds: Callable[[], object], *, seconds: float = 120.0, pause_s: float = 0.02) -> float:
        """Look every 20 ms; how long it took. Fails with the fleet's log."""
        began = time.monotonic()
        while True:
            ended = [process.args for process in self._running if process.poll() is not None]  # before the look
            if holds():
                return time.monotonic() - began
            if time.monotonic() - began > seconds or (ended and len(ended) == len(self._running)):
                pytest.fail(f"not within {seconds} s, or no tree lives: {ended}\n{self.log()[-4_000:]}")
            time.sleep(pause_s)

    def wait_until_empty(self, queue: str = "jobs", *, seconds: float = 120.0) -> float:
        return self.wait_until(lambda: self.metrics(queue).backlog_messages == 0, seconds=seconds, pause_s=0.1)

    def log(self) -> str:
        path = self.folder / "work.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def rest(self, seconds: float) -> None:
        """Let the fleet work on; for campaigns whose faults come by the clock."""
        time.sleep(seconds)

    def workers(self, tree: subprocess.Popen[bytes]) -> list[int]:
        """pids of the worker processes of a tree, oldest first."""
        return _children(tree.pid)

    def freeze(self, pid: int) -> None:
        """SIGSTOP: what it says from now on, should it ever wake, is said by a sleepwalker."""
        self.recorder.note(What.FROZEN, pid=pid)
        os.kill(pid, signal.SIGSTOP)

    def kill_tree(self, tree: subprocess.Popen[bytes]) -> None:
        """All of it at once: the supervisor, its workers, and what they have started."""
        pids = [tree.pid, *_descendants(tree.pid)]
        for pid in pids:
            self.recorder.note(What.KILLED, pid=pid)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        tree.wait()
        self._running.remove(tree)

    def end(self, tree: subprocess.Popen[bytes]) -> None:
        """SIGTERM, of which the history is told."""
        for pid in [tree.pid, *self.workers(tree)]:
            self.recorder.note(What.ENDING, pid=pid)
        tree.send_signal(signal.SIGTERM)
        self._running.remove(tree)
        self._ending.append(tree)

    def close(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in [*self._running, *self._ending]:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


def _descendants(pid: int) -> list[int]:
    children = _children(pid)
    return children + [each for child in children for each in _descendants(child)]


def _portions(items: list[T], size: int) -> Iterable[list[T]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _key(body: Any) -> str | None:
    return body.get("key") if isinstance(body, dict) else None
