"""One write transaction: many operations share it, and what they add up to is written once, at its end.

Operations are plain functions of a Transaction. It buffers inserts (so that fifty sends become one `executemany`),
counts per lane, and the names of queues to wake; `finish` writes all that before COMMIT.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, TypeAlias

import apsw

from conveyor.model.clock import Clock
from conveyor.model.ids import IdSource, MessageId
from conveyor.store.admission import admit_all
from conveyor.store.groups import MemberEnd, is_member
from conveyor.store.queries import load_statements
from conveyor.store.sqlite.catalog import Catalog, QueueRow

SQL: Final = load_statements("sqlite")

_SIZES: Final = (40, 20, *range(10, 0, -1))
"""Rows to a statement: few enough that all of them stay prepared."""

Row: TypeAlias = tuple[Any, ...]  # what the database hands back; each statement's reader knows its columns


class Transaction:
    """What an operation may touch. Lives for one commit group, on the writer's thread."""

    def __init__(self, cursor: apsw.Cursor, catalog: Catalog, clock: Clock, ids: IdSource) -> None:
        self._cursor = cursor
        self.now = clock.now_ms()
        self.admission = admit_all(self.now)
        """Of the claim that is under way."""
        self.catalog = catalog
        self.ids = ids
        self.woken: set[str] = set()
        self.told: set[int] = set()
        """Messages whose worker says itself what became of their jobs."""
        self.members: dict[MessageId, MemberEnd] = {}
        """Members of groups that have ended here and are not counted yet."""
        self._messages: list[Sequence[Any]] = []
        self._ready: list[Sequence[Any]] = []
        self._later: dict[str, list[Sequence[Any]]] = {}
        self._counts: dict[int, list[int]] = {}
        self._stored_counts: dict[int, Row] = {}
        found = self.row("read_store")
        assert found is not None
        self._last_seq: int = found[1]
        self._first_seq = self._last_seq
        catalog.refresh(found[0])

    @property
    def due(self) -> int:
        """What was ready by then may go."""
        return self.admission.due

    def rows(self, name: str, *values: Any) -> list[Row]:
        """All rows of a named statement."""
        return self._cursor.execute(SQL[name], values).fetchall()

    def row(self, name: str, *values: Any) -> Row | None:
        """The first row of a named statement, or None."""
        return self._cursor.execute(SQL[name], values).fetchone()

    def run(self, name: str, *values: Any) -> int:
        """Run a named statement that answers nothing; the number of rows it changed."""
        self._cursor.execute(SQL[name], values)
        return self._cursor.connection.changes()

    def run_many(self, name: str, values: Iterable[Sequence[Any]]) -> list[Row]:
        """Run a named statement once for each; the rows that all of them returned."""
        return self._cursor.executemany(SQL[name], values).fetchall()

    def next_seq(self) -> int:
        """Sequence numbers grow for ever, also after the table was emptied."""
        self._last_seq += 1
        return self._last_seq

    def insert(self, message: Sequence[Any], ready: Sequence[Any]) -> None:
        """Buffer one message's rows; see `insert_message` and `insert_ready`."""
        self._messages.append(message)
        self._ready.append(ready)

    def insert_later(self, name: str, values: Sequence[Any]) -> None:
        """Buffer a row that goes with a buffered message."""
        self._later.setdefault(name, []).append(values)

    def count(self, lane: int, messages: int, size: int) -> None:
        """Add to the counters of a lane that is not purged."""
        counts = self._counts.get(lane)
        if counts is None:
            counts = self._counts[lane] = [0, 0]
        counts[0] += messages
        counts[1] += size

    def backlog(self, lane: int) -> tuple[int, int]:
        """(messages, bytes) that are not final in a lane, this transaction's included."""
        stored = self._stored_counts.get(lane)
        if stored is None:
            stored = self._stored_counts[lane] = self.row("read_counts", lane) or (0, 0)
        here = self._counts.get(lane, (0, 0))
        return stored[0] + here[0], stored[1] + here[1]

    def end_member(self, id: MessageId, headers: bytes | None, end: MemberEnd) -> None:
        """A message with these headers is over: whoever commits has it counted, if it is a member."""
        if is_member(headers):
            self.members[id] = end

    def wake(self, queue: QueueRow) -> None:
        """A claim on this queue may find something now."""
        self.woken.add(queue.name)

    def flush(self) -> None:
        """Write the buffered inserts: whoever reads messages in this transaction needs them."""
        if self._messages:
            self._insert("insert_message", self._messages)
            self._insert("insert_ready", self._ready)
            self._messages, self._ready = [], []
        if self._later:
            for name, values in self._later.items():
                self.run_many(name, values)
            self._later = {}

    def _insert(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        """The interpreter's lock changes hands at every step of a statement, and whoever is busy elsewhere in the
        process keeps it a while each time: so many rows to a step."""
        at = 0
        while at < len(rows):
            size = next(size for size in _SIZES if size <= len(rows) - at)
            self._cursor.execute(_of_rows(name, size), tuple(chain.from_iterable(rows[at : at + size])))
            at += size

    def forget_counts(self, lane: int) -> None:
        """The lane is purged: what this transaction counted there is gone with it."""
        self._counts.pop(lane, None)
        self._stored_counts.pop(lane, None)

    def finish(self) -> None:
        """Write what has added up; COMMIT comes next."""
        self.flush()
        if self._last_seq != self._first_seq:
            self.run("write_last_seq", self._last_seq)
        changed = [(lane, *counts) for lane, counts in self._counts.items() if counts != [0, 0]]
        if changed:
            self.run_many("add_counts", changed)


@cache
def _of_rows(name: str, size: int) -> str:
    """The statement for so many rows at once."""
    head, _, values = SQL[name].partition("VALUES")
    row = f"({', '.join('?' * (values.count(':')))})"
    return f"{head}VALUES {', '.join([row] * size)}"
