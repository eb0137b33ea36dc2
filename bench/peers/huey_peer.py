"""huey on SQLite, at conveyor's durability: `SqliteHuey(fsync=True)`; its consumer with threads, as documented."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping

import huey  # type: ignore[import-untyped]  # it ships no types

from bench.peers.contract import SYNCHRONOUS, Answer, Body, Note, file_of, python_version


class Huey:
    """One task on one SqliteHuey; everything else is huey's default."""

    name = "huey"
    store = "sqlite"
    drained = 4_000
    ways: Mapping[str, Mapping[str, int]] = {"huey, 1 thread": {"workers": 1}, "huey, 4 threads": {"workers": 4}}

    def open(self, url: str) -> None:
        self._huey = huey.SqliteHuey("bench", filename=file_of(url), fsync=True)
        self._note: Note = lambda _number: None
        self._task = self._huey.task(name="handle")(self._handle)

    def close(self) -> None:
        self._huey.storage.close()

    def facts(self) -> Answer:
        connection = self._huey.storage.conn
        journal = connection.execute("pragma journal_mode").fetchone()[0]
        level = connection.execute("pragma synchronous").fetchone()[0]
        return {
            "versions": {"huey": huey.__version__, "python": python_version(), "sqlite": sqlite3.sqlite_version},
            "settings": f"fsync=True ({journal}, synchronous={SYNCHRONOUS[level]})",
        }

    def send(self, body: Body) -> object:
        return self._task(body)

    def send_many(self, bodies: list[Body]) -> None:
        """It has no call for many."""
        for body in bodies:
            self._task(body)

    def left(self) -> int:
        return int(self._huey.pending_count())

    def work(self, url: str, note: Note, settings: Mapping[str, int]) -> None:
        logging.getLogger("huey").setLevel(logging.WARNING)
        self.open(url)
        self._note = note
        self._huey.create_consumer(workers=settings["workers"], worker_type="thread").run()

    def _handle(self, body: dict[str, int]) -> None:
        self._note(body["number"])
