"""What a store tells of its own health: facts without a judgment. `conveyor.doctor` judges them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from conveyor.store.migrate import SchemaState
from conveyor.store.records import OwnerRow, QueueInfo, QueueMetrics, Schedule

WAL_BYTES_MAX: Final = 256 * 1024 * 1024
"""What the WAL of an SQLite store stays under unless somebody holds an old snapshot."""
NETWORK_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs"})
"""Where SQLite's WAL mode corrupts: its shared memory is not shared between machines."""


class Integrity(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says of its own pages."""

    problems: list[str]
    is_complete: bool
    """False: the check was given up for lack of time."""
    is_thorough: bool


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An SQLite store's file and what lies around it."""

    path: str
    library: str
    """The version of SQLite."""
    library_is_safe: bool
    exists: bool = False
    readable: bool = False
    writable: bool = False
    """The file and its folder."""
    file_system: str | None = None
    """As the kernel names it: `ext4`, `nfs4`, `fuse.sshfs`. None: this system does not tell."""
    file_bytes: int = 0
    wal_bytes: int = 0
    free_bytes: int = 0
    journal_mode: str | None = None
    synchronous: int | None = None
    """Of a connection as the store opens it."""
    integrity: Integrity | None = None
    wakes: bool | None = None
    """Whether a datagram came through the wake-up folder."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose snapshot keeps dead rows from being cleared away, or who sits in a transaction."""

    kind: str
    """`transaction`, `idle in transaction`, `prepared transaction`, `replication slot`, `standby`."""
    who: str
    age_ms: int | None
    """None: the server does not tell."""
    xids: int | None
    """How many transactions have begun since. None: it holds no snapshot."""


class TableFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A table as the server's statistics see it."""

    name: str
    live_rows: int
    dead_rows: int
    size_bytes: int
    """With its indexes."""
    is_vacuumed: bool
    """Whether autovacuum may come."""


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A PostgreSQL server, and a store's schema in it."""

    where: str
    now: int
    """By the server's clock."""
    version: int
    """As in `server_version_num`: 150004."""
    release: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    """Of a session as the store opens it."""
    read_only: str
    autovacuum: str
    is_standby: bool
    connections: int
    connections_max: int
    xid_age: int
    mxid_age: int
    sees_all: bool
    """Whether the role may see other users' sessions."""
    hears: bool | None = None
    """Whether a notification came through the URL."""
    holders: list[Holder] = []
    tables: list[TableFacts] = []
    backlog_messages: int = 0
    backlog_bytes: int = 0
    missing_indexes: Mapping[str, str] = {}
    """And the statement that makes each, or nothing where that is a constraint's."""
    invalid_indexes: list[str] = []


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A queue, its backlog, and how many dead letters lie in it."""

    info: QueueInfo
    metrics: QueueMetrics
    dead_letters: int = 0


class BeltFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in a store of the present schema."""

    now: int
    host: str
    """This machine and boot, as in `OwnerInfo.host`."""
    is_of_one_host: bool
    """Whether all processes must be of one machine, as on SQLite."""
    clock_drift_ms: int | None
    """How far the store's clock is before the wall clock. None: it is set anew at the next opening."""
    owners: list[OwnerRow]
    queues: list[QueueFacts]
    schedules: list[Schedule]
    due_since: Mapping[str, int]
    """What a sweep would clear, by kind, and since when the oldest of it waits."""
    purged_rows: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that could be found out; what could not is None. A store fills what it has: an SQLite file here, a server's
    settings elsewhere."""

    refusal: str | None = None
    """Why there is no `belt`."""
    file: FileFacts | None = None
    server: ServerFacts | None = None
    schema: SchemaState | None = None
    belt: BeltFacts | None = None
