"""Moves the WAL into the database on a connection and a thread of its own, so that no commit waits for the bulk of it.

The writer does the small rest in one go when the bulk is done, and the next commit starts the WAL from its beginning.
That matters: overwriting a file costs half the sync of making it grow (docs/decisions/0007).
"""

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
        self._moved = False
        self._ends = False
        self._thread = threading.Thread(target=self._work, name="conveyor-checkpointer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """Move what is in the WAL now; `take_moved` says when that is done."""
        self._asked.set()

    def take_moved(self) -> bool:
        """Whether the bulk was moved since the last time this was asked."""
        moved, self._moved = self._moved, False
        return moved

    def stop(self) -> None:
        """Blocks until the thread is gone."""
        self._ends = True
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        with contextlib.ExitStack() as stack:
            connection: apsw.Connection | None = None
            while True:
                self._asked.wait()
                self._asked.clear()
                if self._ends:
                    return
                with contextlib.suppress(apsw.Error, StoreError):
                    if connection is None:
                        connection = open_connection(self._path, writes=True)
                        stack.callback(connection.close)
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                    self._moved = True
