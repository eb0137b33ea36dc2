"""litequeue as documented: synchronous=NORMAL, one loop of pop and done, 10 ms of sleep when there is nothing."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sqlite3
from pathlib import Path
from time import sleep
from typing import Any

from bench.peers.contract import (
    SYNCHRONOUS,
    Answer,
    Pace,
    enqueue_from_threads,
    python_version,
    run_peer,
    trickle_blocking,
)
from bench.peers.marks import Marks
from bench.peers.payload import payload

POLL_SECONDS = 0.01


class LiteQueue:
    """One LiteQueue object, shared by the threads of a process as its documentation allows."""

    def describe(self, file: Path) -> Answer:
        connection = _open(file).conn
        journal = connection.execute("pragma journal_mode").fetchone()[0]
        level = connection.execute("pragma synchronous").fetchone()[0]
        version = importlib.metadata.version("litequeue")
        return {
            "versions": {"litequeue": version, "python": python_version(), "sqlite": sqlite3.sqlite_version},
            "settings": f"as documented ({journal}, synchronous={SYNCHRONOUS[level]})",
        }

    def enqueue(self, file: Path, callers: int, seconds: float) -> Answer:
        queue = _open(file)
        return enqueue_from_threads(lambda body: queue.put(json.dumps(body)), callers, seconds)

    def fill(self, file: Path, count: int) -> Answer:
        queue = _open(file)
        with queue.transaction():
            for number in range(count):
                queue.put(json.dumps(payload(number)))
        return {"count": count}

    def work(self, file: Path, marks: Path, workers: int) -> Answer:
        queue, handled = _open(file), Marks(marks)
        while True:
            message = queue.pop()
            if message is None:
                sleep(POLL_SECONDS)
                continue
            handled.mark(json.loads(message.data)["number"])
            queue.done(message_id=message.message_id, claim_id=message.claim_id)

    def trickle(self, file: Path, pace: Pace) -> Answer:
        queue = _open(file)
        return trickle_blocking(lambda body: queue.put(json.dumps(body)), pace)


def _open(file: Path) -> Any:
    """Imported by name: the type checker's Python is older than litequeue's."""
    return importlib.import_module("litequeue").LiteQueue(filename=str(file))


if __name__ == "__main__":
    run_peer(LiteQueue())
