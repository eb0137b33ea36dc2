"""huey on SQLite, at conveyor's durability: `SqliteHuey(fsync=True)`; its consumer with threads, as documented."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import huey  # type: ignore[import-untyped]  # it ships no types

from bench.peers.contract import (
    SYNCHRONOUS,
    Answer,
    Pace,
    Send,
    enqueue_from_threads,
    python_version,
    run_peer,
    trickle_blocking,
)
from bench.peers.marks import Marks
from bench.peers.payload import payload


class Huey:
    """One task on one SqliteHuey; everything else is huey's default."""

    def describe(self, file: Path) -> Answer:
        connection = _open(file).storage.conn
        journal = connection.execute("pragma journal_mode").fetchone()[0]
        level = connection.execute("pragma synchronous").fetchone()[0]
        return {
            "versions": {"huey": huey.__version__, "python": python_version(), "sqlite": sqlite3.sqlite_version},
            "settings": f"fsync=True ({journal}, synchronous={SYNCHRONOUS[level]})",
        }

    def enqueue(self, file: Path, callers: int, seconds: float) -> Answer:
        return enqueue_from_threads(_task(_open(file)), callers, seconds)

    def fill(self, file: Path, count: int) -> Answer:
        send = _task(_open(file, fsync=False))
        for number in range(count):
            send(payload(number))
        return {"count": count}

    def work(self, file: Path, marks: Path, workers: int) -> Answer:
        logging.getLogger("huey").setLevel(logging.WARNING)
        queue = _open(file)
        _task(queue, Marks(marks))
        queue.create_consumer(workers=workers, worker_type="thread").run()
        return {}

    def trickle(self, file: Path, pace: Pace) -> Answer:
        return trickle_blocking(_task(_open(file)), pace)


def _open(file: Path, *, fsync: bool = True) -> huey.SqliteHuey:
    return huey.SqliteHuey("bench", filename=str(file), fsync=fsync)


def _task(queue: huey.SqliteHuey, marks: Marks | None = None) -> Send:
    """The task by its one name; only a worker has marks to write."""

    def handle(body: dict[str, int]) -> None:
        if marks is not None:
            marks.mark(body["number"])

    task: Send = queue.task(name="handle")(handle)
    return task


if __name__ == "__main__":
    run_peer(Huey())
