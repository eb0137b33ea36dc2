"""The two ends of a way that begins or ends in an SQLite file: rows are read beside or against its writers, and written
in one transaction."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw

from conveyor.model.errors import ConflictError, StoreInUseError, StoreMovedError, StoreUnsupportedError
from conveyor.store.migrate import plan_migrations
from conveyor.store.note import NOTE_NUMBER, Note, Passage, read_note
from conveyor.store.portable import CHUNK_ROWS, Heading, Row, Table
from conveyor.store.sqlite.checkup import count_owners
from conveyor.store.sqlite.clock import wall_ms
from conveyor.store.sqlite.connection import look_into, open_connection, translate
from conveyor.store.sqlite.opening import migrate, read_applied
from conveyor.store.sqlite.transaction import SQL


class SQLiteOutgoing:
    """`Outgoing` of a connection whose transaction has begun."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    async def heading(self) -> Heading:
        found = self._connection.execute(SQL["read_heading"]).fetchone()
        assert found is not None, "a migrated store has one row"
        return Heading(**dict(zip(Heading.__struct_fields__, found, strict=True)))

    async def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        cursor = self._connection.execute(SQL[table.export])
        words = [at for at, column in enumerate(table.columns) if column in table.words]
        while chunk := list(itertools.islice(cursor, CHUNK_ROWS)):
            yield [_without_nul(row, words) for row in chunk] if words else chunk

    async def seal(self, note: Note) -> None:
        _put_note(self._connection, note)
        self._connection.execute("COMMIT")


def _without_nul(row: Row, words: list[int]) -> Row:
    return tuple(value.replace("\0", "\ufffd") if at in words and value else value for at, value in enumerate(row))


class SQLiteIncoming(SQLiteOutgoing):
    """`Incoming` of the same."""

    async def load(self, table: Table, rows: AsyncIterator[list[Row]]) -> None:
        async for chunk in rows:
            self._connection.executemany(SQL[table.load], chunk)

    async def finish(self, heading: Heading) -> None:
        numbers = (heading.last_seq, heading.last_lane, heading.last_owner)
        self._connection.execute(SQL["write_heading"], (heading.secret, heading.catalog_version, *numbers))
        self._connection.execute(SQL["count_anew"])
        self._connection.execute(SQL["mark_dedupe_anew"])

    async def commit(self, note: Note | None) -> None:
        if note is not None:
            _put_note(self._connection, note)
        self._connection.execute("COMMIT")
        with contextlib.suppress(apsw.BusyError):  # a reader holds it: the next opening does it
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _put_note(connection: apsw.Connection, note: Note) -> None:
    connection.execute(SQL["put_note"], (NOTE_NUMBER, note.name, note.peer, wall_ms()))
    connection.execute(SQL["close_store"])


@contextlib.contextmanager
def read_file(path: Path) -> Iterator[SQLiteOutgoing]:
    """A snapshot, beside whoever writes. Raises a `StoreError`."""
    with _translated(path), _closing(look_into(path)) as connection:
        connection.execute("BEGIN")
        _check_schema(connection, path)
        yield SQLiteOutgoing(connection)


@contextlib.contextmanager
def hold_file(path: Path) -> Iterator[SQLiteOutgoing]:
    """Nobody else writes until the end. `StoreInUseError` while a worker lives."""
    with _translated(path), _closing(open_connection(path, writes=True)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        _check_schema(connection, path)
        living = count_owners(connection)
        if living:
            raise StoreInUseError(str(path), f"{living} living worker process(es)", hint="stop them, or `--wait`")
        yield SQLiteOutgoing(connection)


@contextlib.contextmanager
def fill_file(path: Path, *, resumes: str | None = None) -> Iterator[SQLiteIncoming]:
    """A file that is made if need be and must be empty; what a move from `resumes` has left in it is begun anew."""
    with _translated(path), _closing(open_connection(path, writes=True)) as connection:
        note = _note_in(connection)
        if note is None:
            migrate(connection)
        connection.execute("BEGIN IMMEDIATE")
        note = _note_in(connection)
        if note is not None:
            if note.passage is not Passage.ARRIVING or note.peer != resumes:
                raise note.refusal()
            connection.execute(SQL["reopen_store"])
            connection.execute(SQL["drop_note"], (NOTE_NUMBER,))
            connection.execute(SQL["empty_store"])
        found = connection.execute(SQL["holds_anything"]).fetchone()
        if found is None or found[0]:
            raise ConflictError(f"`{path}` is not empty", hint="move into a store of its own")
        yield SQLiteIncoming(connection)


def reopen_file(path: Path) -> None:
    """Take the note away: the move has ended."""
    with _translated(path), _closing(open_connection(path, writes=True)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(SQL["reopen_store"])
        connection.execute(SQL["drop_note"], (NOTE_NUMBER,))
        connection.execute("COMMIT")


def read_file_identity(path: Path) -> tuple[str | None, Note | None]:
    """The store's name for its processes and a move's note, as far as they are there."""
    if not path.exists():
        return None, None
    with _translated(path), _closing(look_into(path)) as connection:
        if not read_applied(connection):
            return None, None
        found = connection.execute(SQL["read_identity"]).fetchone()
        return (None if found is None else found[0].hex()), _note_in(connection)


def _note_in(connection: apsw.Connection) -> Note | None:
    found = [read_note(each.name, each.checksum) for each in read_applied(connection) if each.number == NOTE_NUMBER]
    return found[0] if found else None


def _check_schema(connection: apsw.Connection, path: Path) -> None:
    applied = read_applied(connection)
    if not applied:
        raise StoreUnsupportedError(f"`{path}` is no conveyor store", hint="name a store, or a backup of one")
    try:
        due = plan_migrations("sqlite", applied)
    except StoreMovedError:
        raise
    except StoreUnsupportedError as error:
        raise StoreUnsupportedError(f"`{path}`: {error.message}", hint=error.hint) from error
    if due:
        hint = f"conveyor migrate --url sqlite:///{path}"
        raise StoreUnsupportedError(f"the schema of `{path}` is older than this release", hint=hint)


@contextlib.contextmanager
def _closing(connection: apsw.Connection) -> Iterator[apsw.Connection]:
    """An open transaction is rolled back."""
    try:
        yield connection
    finally:
        connection.close(force=True)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error
