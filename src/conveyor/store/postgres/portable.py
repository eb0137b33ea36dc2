"""The two ends of a way that begins or ends in a PostgreSQL schema: rows come through a cursor and go in by COPY."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from conveyor.model.errors import ConflictError, StoreInUseError, StoreUnsupportedError
from conveyor.store.keeping import Identity
from conveyor.store.migrate import AppliedMigration, plan_migrations, shipped_names
from conveyor.store.note import NOTE_NUMBER, Note, Passage, read_note
from conveyor.store.portable import CHUNK_ROWS, Heading, Row, Table
from conveyor.store.postgres.clearing import clear_before, clear_outbox
from conveyor.store.postgres.migrating import enter_schema, look_applied, read_applied, run_due
from conveyor.store.postgres.opening import Address
from conveyor.store.postgres.statements import SQL, in_schema
from conveyor.store.postgres.transaction import Connection
from conveyor.store.postgres.visiting import visit


class PostgresOutgoing:
    """`Outgoing` of a connection whose transaction has begun."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def heading(self) -> Heading:
        found = await self._connection.fetchrow(SQL["read_heading"])
        assert found is not None, "a migrated store has one row"
        return Heading(**dict(zip(Heading.__struct_fields__, found.values(), strict=True)))

    async def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        cursor = await self._connection.cursor(SQL[table.export])
        while chunk := await cursor.fetch(CHUNK_ROWS):
            yield [tuple(row) for row in chunk]

    async def seal(self, note: Note) -> None:
        await _put_note(self._connection, note)
        await self._connection.execute("COMMIT")


class PostgresIncoming(PostgresOutgoing):
    """`Incoming` of the same."""

    def __init__(self, connection: Connection, schema: str) -> None:
        super().__init__(connection)
        self._schema = schema

    async def load(self, table: Table, rows: AsyncIterator[list[Row]]) -> None:
        await self._connection.copy_records_to_table(
            table.name, records=_flat(table, rows), columns=table.columns, schema_name=self._schema
        )

    async def finish(self, heading: Heading) -> None:
        await self._connection.execute(SQL["write_heading"], heading.secret, heading.catalog_version)
        await self._connection.execute(
            SQL["write_numbers"], heading.last_seq, heading.last_lane, heading.last_owner
        )
        await self._connection.execute(SQL["count_anew"])

    async def commit(self, note: Note | None) -> None:
        if note is not None:
            await _put_note(self._connection, note)
        await self._connection.execute("COMMIT")


async def _flat(table: Table, rows: AsyncIterator[list[Row]]) -> AsyncIterator[Row]:
    truths = [at for at, column in enumerate(table.columns) if column in table.truths]
    async for chunk in rows:
        for row in chunk:
            yield _with_truths(row, truths) if truths else row


def _with_truths(row: Row, truths: list[int]) -> Row:
    return tuple(bool(value) if at in truths else value for at, value in enumerate(row))


async def _put_note(connection: Connection, note: Note) -> None:
    await connection.execute(SQL["put_note"], NOTE_NUMBER, note.name, note.peer)
    await connection.execute(SQL["close_store"])


@contextlib.asynccontextmanager
async def read_schema_rows(address: Address) -> AsyncIterator[PostgresOutgoing]:
    """A snapshot, beside whoever writes. Raises a `StoreError`."""
    await clear_before(address)
    async with visit(address) as connection:
        await connection.execute(in_schema("begin_snapshot", address.schema))
        await _check_schema(connection, address)
        yield PostgresOutgoing(connection)


@contextlib.asynccontextmanager
async def hold_schema(address: Address) -> AsyncIterator[PostgresOutgoing]:
    """Nobody else writes until the end. `StoreInUseError` while a worker lives."""
    async with visit(address) as connection:
        await connection.execute(SQL["begin_alone"])
        await connection.execute(SQL["lock_migrations"], address.schema)
        await _check_schema(connection, address)
        await connection.execute(SQL["hold_catalog"])
        await check_schema_unused(connection, address, hint="stop them, or `--wait`")
        await connection.execute(SQL["hold_outbox"])
        await clear_outbox(connection)
        yield PostgresOutgoing(connection)


async def check_schema_unused(connection: Connection, address: Address, *, hint: str = "") -> None:
    """`StoreInUseError` while a worker's lease is not over."""
    living = await connection.fetchval(SQL["count_living_owners"])
    if living:
        raise StoreInUseError(address.where, f"{living} living worker process(es)", hint=hint)


@contextlib.asynccontextmanager
async def fill_schema(address: Address, *, resumes: str | None = None) -> AsyncIterator[PostgresIncoming]:
    """A schema that is made if need be and must be empty; what a move from `resumes` has left in it is begun anew."""
    async with visit(address) as connection:
        await _begin_to_fill(connection, address)
        await _drop_leftover(connection, await _note_in(connection), resumes)
        await run_due(connection)
        if await connection.fetchval(SQL["holds_anything"]):
            raise ConflictError(f"`{address.where}` is not empty", hint="move into a schema of its own: `?schema=NAME`")
        yield PostgresIncoming(connection, address.schema)


async def _begin_to_fill(connection: Connection, address: Address) -> None:
    await connection.execute(SQL["begin_alone"])
    await enter_schema(connection, address.schema)
    await connection.execute(SQL["hold_catalog"])
    await connection.execute(SQL["create_migrations"])


async def _drop_leftover(connection: Connection, note: Note | None, resumes: str | None) -> None:
    if note is None:
        return
    if note.passage is not Passage.ARRIVING or note.peer != resumes:
        raise note.refusal()
    await _drop_note(connection)
    await connection.execute(SQL["empty_store"])


@contextlib.asynccontextmanager
async def replace_schema(
    address: Address, kept: str, *, is_forced: bool
) -> AsyncIterator[tuple[PostgresIncoming, bool]]:
    """An empty store in the schema, and whether what was there lies in the schema `kept` now."""
    async with visit(address) as connection:
        await _begin_to_fill(connection, address)
        applied = await read_applied(connection)
        if applied:
            await _check_replaceable(connection, address, applied, is_forced=is_forced)
            await _set_aside(connection, kept)
        await run_due(connection)
        yield PostgresIncoming(connection, address.schema), bool(applied)


async def _check_replaceable(
    connection: Connection, address: Address, applied: list[AppliedMigration], *, is_forced: bool
) -> None:
    plan_migrations("postgres", [each for each in applied if each.number != NOTE_NUMBER])
    if not is_forced:
        await check_schema_unused(connection, address)


async def _set_aside(connection: Connection, kept: str) -> None:
    await connection.execute(SQL["reopen_store"])
    script = await connection.fetchval(SQL["set_aside"], kept, shipped_names("postgres"))
    await connection.execute(in_schema("create_schema", kept))
    await connection.execute(script)


async def reopen_schema(address: Address) -> None:
    """Take the note away: the move has ended."""
    async with visit(address) as connection:
        await connection.execute(SQL["begin_alone"])
        await enter_schema(connection, address.schema)
        await _drop_note(connection)
        await connection.execute("COMMIT")


async def _drop_note(connection: Connection) -> None:
    await connection.execute(SQL["reopen_store"])
    await connection.execute(SQL["drop_note"], NOTE_NUMBER)


async def identify_schema(address: Address) -> Identity:
    async with visit(address) as connection, connection.transaction():
        if not await look_applied(connection, address.schema):
            return Identity()
        found = await connection.fetchval(SQL["read_identity"])
        return Identity(id=None if found is None else found.hex(), note=await _note_in(connection))


async def _note_in(connection: Connection) -> Note | None:
    applied = await read_applied(connection)
    found = [read_note(each.name, each.checksum) for each in applied if each.number == NOTE_NUMBER]
    return found[0] if found else None


async def _check_schema(connection: Connection, address: Address) -> None:
    applied = await look_applied(connection, address.schema)
    if not applied:
        hint = "say where with `--url` or CONVEYOR_URL, and which schema with `?schema=`"
        raise StoreUnsupportedError(f"there is no store at `{address.where}`", hint=hint)
    if plan_migrations("postgres", applied):
        problem = f"the schema of `{address.where}` is older than this release"
        raise StoreUnsupportedError(problem, hint="run `conveyor migrate` there")
