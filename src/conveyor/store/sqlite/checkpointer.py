"""Moves the WAL into the database on a connection and a thread of its own, so that no commit waits for it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import apsw

from conveyor.model.errors import StoreError
from conveyor.store.sqlite.connection import open_connection


class Checkpointer:
    """Asked by the writer when the WAL has grown; a checkpoint that readers or writers hinder is tried again next
    time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._asked = threading.Event()
        self._ends = False
        self._thread = threading.Thread(target=self._work, name="conveyor-checkpointer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        self._asked.set()

    def stop(self) -> None:
        """Blocks until the thread is gone."""
        self._ends = True
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._ends:
                return
            with contextlib.suppress(apsw.Error, StoreError), contextlib.closing(
                open_connection(self._path, writes=True)
            ) as connection:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
