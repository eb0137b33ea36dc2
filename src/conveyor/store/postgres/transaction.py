"""One transaction on one connection: what an operation may touch, and what it adds up to at its end.

Inserts and counts are buffered and written by `finish`, last: sequence numbers are drawn only for what will be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec

from conveyor.model.ids import IdSource, MessageId
from conveyor.store.admission import admit_all
from conveyor.store.groups import MemberEnd, is_member
from conveyor.store.postgres.catalog import EMPTY, Catalog, QueueRow
from conveyor.store.postgres.marks import Level, Marks, Place
from conveyor.store.postgres.statements import SQL, WRITES

Row: TypeAlias = Any  # asyncpg's Record; each statement's reader knows its columns
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# Statements that put a message back among the READY ones: its level and its place there, from their values. What was
# blocked is put back where claims go the long way, which has no marks.
_PUT_BACK: Final[dict[str, Callable[[Sequence[Any]], tuple[Level, Place]]]] = {
    "insert_ready": lambda values: ((values[0], values[1], values[2]), (values[3], values[4])),
}
WAITING, LEASED, BEHIND = 0, 1, 2  # places of `keyed`; behind its key is what was blocked, or waits for its key's turn
FOLD_ROWS: Final = 200
"""So many deltas of one lane are folded into one by whoever has just summed them."""


def storable(text: str) -> str:
    """Words for people; PostgreSQL's text holds no NUL and no half of a surrogate pair."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class CatalogWantedError(Exception):
    """The operation changes a queue and holds the catalog only with others: it runs again, holding it alone."""


class Draught(msgspec.Struct, gc=False):
    """A message about to be written: the columns of `insert_messages`, in their order."""

    lane: int
    id: bytes
    body: bytes
    content: int
    sent_at: int
    ready_at: int
    priority: int
    key: str | None
    headers: bytes | None
    expires_at: int | None
    max_retries: int | None
    dedupe: str | None
    dedupe_until: int = 0
    cost: int = 1
    gate_key: str | None = None
    """Where the consumer gates keys."""
    place: int = WAITING

    def columns(self) -> tuple[Any, ...]:
        return (
            *(self.lane, self.id, self.body, self.content, self.sent_at, self.ready_at, self.priority),
            *(self.key, self.headers, self.expires_at, self.max_retries, self.dedupe),
        )


class Transaction:
    """Lives from BEGIN to COMMIT."""

    def __init__(self, connection: Connection, ids: IdSource, marks: Marks, now: int, *, holds_catalog: bool) -> None:
        self._connection = connection
        self._holds_catalog = holds_catalog
        self.now = now
        self.admission = admit_all(now)
        """Of the claim that is under way."""
        self.ids = ids
        self.marks = marks
        self.catalog: Catalog = EMPTY
        self.woken: set[str] = set()
        self.told: set[int] = set()
        """Messages whose worker says itself what became of their jobs."""
        self.members: dict[MessageId, MemberEnd] = {}
        """Members of groups that have ended here and are not counted yet."""
        self.is_dirty = False
        self.put_back: dict[Level, Place] = {}
        """Levels in which a message came to READY otherwise than by a send, and the first place of each."""
        self.regates = False
        """Whether a whole lane was moved."""
        self._inserts: list[Draught] = []
        self._dedupe: dict[tuple[int, str], bytes] = {}
        self._counts: dict[int, list[int]] = {}
        self._stored_counts: dict[int, tuple[int, int]] = {}
        self._locked: set[int] = set()

    @property
    def due(self) -> int:
        """What was ready by then may go."""
        return self.admission.due

    async def rows(self, name: str, *values: Any) -> list[Row]:
        """All rows of a named statement."""
        found = await self._connection.fetch(SQL[name], *values)
        if found and name in WRITES:
            self.is_dirty = True
        return found

    async def row(self, name: str, *values: Any) -> Row | None:
        """The first row of a named statement, or None."""
        found = await self._connection.fetchrow(SQL[name], *values)
        if found is not None and name in WRITES:
            self.is_dirty = True
        return found

    async def run(self, name: str, *values: Any) -> int:
        """Run a named statement that answers nothing; the number of rows it changed."""
        if name in _PUT_BACK:
            self.note_put_back(*_PUT_BACK[name](values))
        self.regates = self.regates or name == "unblock_lane"
        status = await self._connection.execute(SQL[name], *values)
        changed = int(status.rpartition(" ")[2])
        self.is_dirty = self.is_dirty or changed > 0
        return changed

    async def run_many(self, name: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a named statement once for each, in one go."""
        await self._connection.executemany(SQL[name], values)
        self.is_dirty = True

    def note_put_back(self, level: Level, place: Place) -> None:
        """A message is ready here now, perhaps before the mark."""
        self.put_back[level] = min(place, self.put_back.get(level, place))
        self.marks.lower(level, place)  # a claim may follow in this transaction; others see it after COMMIT

    def require_catalog(self) -> None:
        """Raised before anything is written that could not be written again."""
        if not self._holds_catalog:
            raise CatalogWantedError

    async def lock_lane(self, lane: int) -> None:
        """Alone with this lane's keys, slots or depth until COMMIT."""
        if lane not in self._locked:
            self._locked.add(lane)
            self._stored_counts.pop(lane, None)
            await self.row("lock_lane", lane)

    async def lock_gated(self, lanes: Iterable[int]) -> None:
        """Lock those lanes whose consumers gate keys, in order."""
        for lane in sorted(lanes):
            row = self.catalog.of_lane(lane)
            if row is not None and row.gates_keys:
                await self.lock_lane(lane)

    def insert(self, message: Draught) -> None:
        """Buffer one new message."""
        self._inserts.append(message)
        if message.dedupe is not None:
            self._dedupe[message.lane, message.dedupe] = message.id
        self.count(message.lane, 1, len(message.body))

    def dedupe_here(self, lane: int, key: str) -> bytes | None:
        """The message with this key that this transaction is about to write."""
        return self._dedupe.get((lane, key))

    def count(self, lane: int, messages: int, size: int) -> None:
        """Add to the counters of a lane that is not purged."""
        counts = self._counts.get(lane)
        if counts is None:
            counts = self._counts[lane] = [0, 0]
        counts[0] += messages
        counts[1] += size

    def counted(self, lane: int) -> tuple[int, int]:
        """(messages, bytes) that this transaction has added to a lane so far."""
        messages, size = self._counts.get(lane, (0, 0))
        return messages, size

    async def backlog(self, lane: int) -> tuple[int, int]:
        """(messages, bytes) that are not final in a lane, this transaction's included."""
        stored = self._stored_counts.get(lane)
        if stored is None:
            found = await self.row("read_counts", lane)
            assert found is not None
            stored = self._stored_counts[lane] = (found[0], found[1])
            if found[2] > FOLD_ROWS:
                await self.run("fold_counters", lane)
        messages, size = self.counted(lane)
        return stored[0] + messages, stored[1] + size

    def forget_counts(self, lane: int) -> None:
        """The lane is purged: what this transaction counted there is gone with it."""
        self._counts.pop(lane, None)
        self._stored_counts.pop(lane, None)

    def end_member(self, id: MessageId, headers: bytes | None, end: MemberEnd) -> None:
        """A message with these headers is over: whoever commits has it counted, if it is a member."""
        if is_member(headers):
            self.members[id] = end

    def wake(self, queue: QueueRow) -> None:
        """A claim on this queue may find something now."""
        self.woken.add(queue.name)

    async def finish(self, writer: bytes, number: int) -> bool:
        """Write what has added up, and a receipt if anything was written; whether there is a receipt. COMMIT comes
        next."""
        await self.flush()
        changed = [(lane, *counts) for lane, counts in self._counts.items() if counts != [0, 0]]
        if not changed and not self.is_dirty:
            return False
        lanes, messages, sizes = zip(*changed, strict=True) if changed else ((), (), ())
        await self.run("add_counts", writer, number, self.now, lanes, messages, sizes)
        return True

    async def flush(self) -> None:
        """Write the buffered messages now, for who must see them in this transaction."""
        inserts, self._inserts = self._inserts, []
        if not inserts:
            return
        columns = zip(*(each.columns() for each in inserts), strict=True)
        found = await self.rows("insert_messages", *columns)
        placed = [(seq, each) for (seq,), each in zip(found, inserts, strict=True)]
        dedupe = [(each.lane, each.dedupe, seq, each.id, each.dedupe_until) for seq, each in placed if each.dedupe]
        gated = [
            (each.lane, each.gate_key, seq, each.place, each.priority, each.ready_at)
            for seq, each in placed
            if each.gate_key is not None
        ]
        costs = [(seq, each.cost) for seq, each in placed if each.cost != 1]
        if dedupe:
            await self.run_many("put_dedupe", dedupe)
        if gated:
            await self.run("add_keyed", *zip(*gated, strict=True))
            called = {(lane, ready_at, key) for lane, key, _, place, _, ready_at in gated if place == BEHIND}
            if called:
                await self.run("call_keys", *zip(*sorted(called), strict=True))
        if costs:
            await self.run("write_costs", *zip(*costs, strict=True))
