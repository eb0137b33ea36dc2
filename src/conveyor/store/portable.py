"""What a store holds, in a form that every database understands: the tables and columns that a backup, a restore and a
move carry, and the two ends of the way.

This is the one list. Each dialect's `portable.sql` has a statement `export_<table>` that reads exactly these columns,
in the order of the primary key; SQLite's also has `load_<table>`, which writes them. A migration that adds a table or a
column adds it here, or to `LEFT` with the reason; a test compares both with the schema that the migrations make.

A value is an integer, text, bytes or None. Truths are 0 and 1; kv keys are bytes of UTF-8.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from conveyor.store.note import Note

Row: TypeAlias = tuple[Any, ...]

CHUNK_ROWS: Final = 200
"""Held in memory at a time, bodies included."""


class Table(msgspec.Struct, frozen=True):
    """A table that is carried, and its columns."""

    name: str
    columns: tuple[str, ...]
    truths: frozenset[str] = frozenset()
    """Columns that are boolean where the database has such a type."""
    words: frozenset[str] = frozenset()
    """Columns with words for people, which may hold a NUL on SQLite; elsewhere, and on the way, that is U+FFFD."""

    @property
    def export(self) -> str:
        """The statement that reads it."""
        return f"export_{self.name}"

    @property
    def load(self) -> str:
        """The statement that writes it."""
        return f"load_{self.name}"


def _table(name: str, columns: str, truths: str = "", words: str = "") -> Table:
    return Table(name, tuple(columns.split()), frozenset(truths.split()), frozenset(words.split()))


TABLES: Final = (
    _table(
        "queues",
        "name lane settings consumer declared paused throttled_until levels holds_dead rests_keys version created_at "
        "modified_at first_name former",
        "paused holds_dead rests_keys",
    ),
    _table(
        "messages",
        "seq lane id body content_type sent_at ready_at first_ready_at priority key headers expires_at max_retries "
        "dedupe cost claims_before",
    ),
    _table("ready", "lane shelf priority ready_at seq claims releases crashes"),
    _table("leased", "owner seq lane claims releases crashes suspect size lease_until lease_most", "suspect"),
    _table("owners", "owner info lease_until"),
    _table("slots", "lane owner held"),
    _table("keyed", "lane key seq place priority ready_at"),
    _table("rates", "queue key entries ends_at opens_at"),
    _table("ticks", "queue tick messages"),
    _table("turns", "lane priority turn key remains"),
    _table("called", "lane due_at key"),
    _table("dedupe", "lane key seq id until"),
    _table("dead_letters", "lane seq origin_queue reason last_error dead_at max_retries", words="reason last_error"),
    _table("schedules", "name draft version next_tick paused", "paused"),
    _table(
        "runs",
        "schedule tick trigger status correlation_id message_id fired_at started_at finished_at error",
        words="error",
    ),
    _table("alarms", "name queue message_id due_at set_at failed_at error", words="error"),
    _table("deliveries", "id endpoint queue event state message_id created_at modified_at body"),
    _table("kv", "namespace key value metadata expires_at"),
    _table("documents", "kind name body version created_at modified_at"),
    _table(
        "jobs",
        "id name queue state enqueued_at started_at ended_at attempts worker result result_until error fingerprint "
        "next_at cancel_at expires_at",
        words="error",
    ),
    _table("attempts", "id started_at attempt state ended_at worker error fingerprint next_at", words="error"),
    _table("steps", "id kind name attempt began_at ended_at until value"),
    _table("job_events", "id name payload sent_at"),
    _table(
        "reports",
        "id last_number log_lines log_bytes output_attempt output_bytes progress_number progress_at progress_attempt "
        "millionths note",
        words="note",
    ),
    _table("report_lines", "id number kind at attempt level is_text body", "is_text"),
    _table(
        "groups",
        "id name state on_failure has_edges total unsent succeeded failed cancelled created_at deadline_ms deadline_at "
        "ended_at expires_at on_complete",
        "has_edges",
    ),
    _table("group_nodes", "id group_id place queue job state waits_for takes ended_at"),
    _table("group_edges", "group_id parent child"),
    _table("group_drafts", "group_id place draft"),
)

LEFT: Final[Mapping[str, str]] = MappingProxyType({
    "store": "its secret and its numbers are the heading; a store's name for its processes is its own",
    "migrations": "the other store has run its own",
    "counters": "counted anew from what came",
    "receipts": "they answer a process that lost its connection to the old store",
    "outbox": "carried into the queues first, on PostgreSQL; SQLite has none",
    "acks": "gone with the COMMIT of the transaction that acks",
    "notices": "events of a moment, for who listens then",
    "purged": "what a purge has left to the sweep is not carried",
    "kv_large": "SQLite alone; large values, which are carried as those of `kv`",
    "queues.uses_dedupe": "SQLite alone; found anew from what came",
})  # fmt: skip


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """What stands above the tables."""

    secret: bytes
    """Kept, so that the leases of pull consumers stay valid."""
    catalog_version: int
    last_seq: int
    last_lane: int
    last_owner: int
    messages: int
    """As counted; tells how long the way is."""


class Outgoing(Protocol):
    """A store that is read whole, as it is at one moment."""

    async def heading(self) -> Heading: ...

    def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        """In the order of the primary key, `CHUNK_ROWS` at a time. What a purge has left behind is not among them."""
        ...

    async def seal(self, note: Note) -> None:
        """Commit that nobody writes here any more. Only where the store is held against writers."""
        ...


class Incoming(Protocol):
    """An empty store that is filled, in one transaction."""

    async def load(self, table: Table, rows: AsyncIterator[list[Row]]) -> None: ...

    async def finish(self, heading: Heading) -> None:
        """After the last table: numbers go on where they were, counters are counted."""
        ...

    def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        """What was loaded, as the database gives it back."""
        ...

    async def commit(self, note: Note | None) -> None:
        """With a note, nobody may use the store until it is reopened."""
        ...
