"""litequeue as documented: synchronous=NORMAL, one loop of pop and done, 10 ms of sleep when there is nothing."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sqlite3
from collections.abc import Mapping
from time import sleep
from typing import Any

from bench.peers.contract import SYNCHRONOUS, Answer, Body, Note, file_of, python_version

POLL_SECONDS = 0.01


class LiteQueue:
    """One LiteQueue object, shared by the threads of a process as its documentation allows."""

    name = "litequeue"
    store = "sqlite"
    drained = 20_000
    ways: Mapping[str, Mapping[str, int]] = {"litequeue": {}}

    def open(self, url: str) -> None:
        """Imported by name: the type checker's Python is older than litequeue's."""
        self._queue: Any = importlib.import_module("litequeue").LiteQueue(filename=file_of(url))

    def close(self) -> None:
        self._queue.close()

    def facts(self) -> Answer:
        connection = self._queue.conn
        journal = connection.execute("pragma journal_mode").fetchone()[0]
        level = connection.execute("pragma synchronous").fetchone()[0]
        version = importlib.metadata.version("litequeue")
        return {
            "versions": {"litequeue": version, "python": python_version(), "sqlite": sqlite3.sqlite_version},
            "settings": f"as documented ({journal}, synchronous={SYNCHRONOUS[level]})",
        }

    def send(self, body: Body) -> object:
        return self._queue.put(json.dumps(body))

    def send_many(self, bodies: list[Body]) -> None:
        with self._queue.transaction():
            for body in bodies:
                self._queue.put(json.dumps(body))

    def left(self) -> int:
        return int(self._queue.qsize())

    def work(self, url: str, note: Note, settings: Mapping[str, int]) -> None:
        self.open(url)
        while True:
            message = self._queue.pop()
            if message is None:
                sleep(POLL_SECONDS)
                continue
            note(json.loads(message.data)["number"])
            self._queue.done(message_id=message.message_id, claim_id=message.claim_id)
