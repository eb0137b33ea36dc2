"""A shop with real workers: `conveyor work` trees on a temporary SQLite file, watched through the store and the app's log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from conveyor.model.ids import IdSource
from conveyor.model.message import Draft, Peeked
from conveyor.model.settings import QueueSettings
from conveyor.store.sqlite import SQLiteStore

PRELUDE: Final = """
import asyncio, os, signal, sys, time
from pathlib import Path
from conveyor import Batch, Conveyor, Message

FOLDER = Path(os.environ["FOLDER"])
LOG = os.open(FOLDER / "said", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def say(*words):
    os.write(LOG, (" ".join(map(str, words)) + "\\n").encode())

async def until_file(name):
    while not (FOLDER / name).exists():
        await asyncio.sleep(0.01)

app = Conveyor("shop")
"""
POLL_S: Final = 0.02
DEADLINE_S: Final = 120.0


class Shop:
    """The app, its store, and the trees that work for it."""

    def __init__(self, folder: Path, store: SQLiteStore, url: str) -> None:
        self.folder = folder
        self.store = store
        self.url = url
        self._ids = IdSource(store.clock)
        self._trees: list[subprocess.Popen[bytes]] = []

    def write(self, text: str, *, prelude: str = PRELUDE) -> None:
        (self.folder / "shop.py").write_text(prelude + text, encoding="utf-8")

    def start(self, *options: str, verb: str = "work") -> subprocess.Popen[bytes]:
        """A tree of processes; what they say goes to one file."""
        environment = {**os.environ, "CONVEYOR_URL": self.url, "FOLDER": str(self.folder), "CONVEYOR_LOG": "json"}
        command = [sys.executable, "-m", "conveyor", verb, "shop:app", *options]
        with (self.folder / "log").open("ab") as log:
            tree = subprocess.Popen(command, cwd=self.folder, env=environment, stderr=log, stdout=log)
        self._trees.append(tree)
        return tree

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def said(self, first: str | None = None) -> list[list[str]]:
        """What handlers said, as words; `first` is the first word."""
        path = self.folder / "said"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [words for words in map(str.split, lines) if first is None or words[0] == first]

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    def workers(self, tree: subprocess.Popen[bytes]) -> list[int]:
        """pids of a tree's children, oldest first."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            path = Path(f"/proc/{tree.pid}/task/{tree.pid}/children")
            return [int(pid) for pid in path.read_text(encoding="ascii").split()]
        return []

    async def until(self, holds: Callable[[], object], seconds: float = DEADLINE_S) -> float:
        """Look every 20 ms until it is so; how long that took. Fails with what the tree has logged."""

        async def look() -> object:
            return holds()

        return await self.until_async(look, seconds)

    async def until_async(self, holds: Callable[[], Awaitable[object]], seconds: float = DEADLINE_S) -> float:
        began = time.monotonic()
        while not await holds():
            if time.monotonic() - began > seconds:
                pytest.fail(f"not within {seconds} s; said {self.said()[-20:]}\n{self.log()[-4_000:]}")
            await self.store.clock.sleep(POLL_S)
        return time.monotonic() - began

    async def send(self, *bodies: object, queue: str = "jobs") -> None:
        """Sent by hand: opening the app here would declare its consumers."""
        with contextlib.suppress(Exception):
            await self.store.create_queue(queue, QueueSettings())
        for start in range(0, len(bodies), 500):
            await self.store.append(
                [
                    Draft(id=self._ids.new(), queue=queue, body=msgspec.json.encode(body))
                    for body in bodies[start : start + 500]
                ]
            )

    async def peek(self, queue: str = "jobs") -> list[Peeked]:
        return await self.store.peek(queue, limit=1_000)

    async def until_empty(self, queue: str = "jobs", seconds: float = DEADLINE_S) -> None:
        async def is_empty() -> bool:
            return (await self.store.metrics(queue)).backlog_messages == 0

        await self.until_async(is_empty, seconds)

    async def dead(self, queue: str = "jobs-dlq") -> list[tuple[Any, str]]:
        """Bodies and reasons of dead letters."""
        return [(msgspec.json.decode(each.body), each.dead.reason if each.dead else "") for each in await self.peek(queue)]

    def wait(self, tree: subprocess.Popen[bytes], seconds: float = DEADLINE_S) -> int:
        """The exit code of a tree."""
        return tree.wait(timeout=seconds)

    def close(self) -> None:
        for tree in self._trees:
            for _ in range(2):
                with contextlib.suppress(ProcessLookupError):
                    tree.send_signal(signal.SIGTERM)
            try:
                tree.wait(timeout=15)
            except subprocess.TimeoutExpired:
                tree.kill()
                tree.wait()


@contextlib.asynccontextmanager
async def open_shop(folder: Path, data: Path | None = None) -> AsyncIterator[Shop]:
    """A shop on a new file, in a folder of its own if `data` names one; whatever runs for it ends with it."""
    path = (data or folder) / "shop.db"
    store = SQLiteStore(path)
    await store.open()
    shop = Shop(folder, store, f"sqlite:///{path}")
    try:
        yield shop
    finally:
        shop.close()
        await store.close()
