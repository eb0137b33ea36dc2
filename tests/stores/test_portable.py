"""The list of what is carried, held against the schemas that the migrations make: a table or column that a migration adds
must be carried, or left with a reason."""

from __future__ import annotations

import re

import apsw
import asyncpg
import pytest

from conveyor.store import migrate
from conveyor.store.migrate import expected_indexes, shipped_names
from conveyor.store.portable import LEFT, TABLES, Table
from conveyor.store.postgres import PostgresStore
from conveyor.store.postgres.opening import read_address
from conveyor.store.postgres.statements import SQL as POSTGRES
from conveyor.store.queries import load_migrations
from conveyor.store.sqlite import opening
from conveyor.store.sqlite.transaction import SQL as SQLITE
from kit.postgres import the_server

pytestmark = pytest.mark.anyio

KNOWN = {f"{table.name}.{column}" for table in TABLES for column in table.columns}
INTO = {"kv": "kv_entries"}
"""Where SQLite takes in a table whose rows lie in two."""
HOW = "carry it (store/portable.py, export_ and load_ in portable.sql), or say in LEFT why not"


def in_memory() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    opening.migrate(connection)
    return connection


def unknown(found: set[str]) -> set[str]:
    return {each for each in found if each not in KNOWN and each not in LEFT and each.split(".")[0] not in LEFT}


def sqlite_columns(connection: apsw.Connection) -> set[str]:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {f"{table}.{row[1]}" for table in tables for row in connection.execute(f"PRAGMA table_info({table})")}


async def on_postgres(query: str, *values: object) -> list[asyncpg.Record]:
    url = the_server().url()
    store = PostgresStore(url)
    await store.open()
    await store.close()
    address = read_address(url)
    connection = await asyncpg.connect(address.dsn, server_settings={"search_path": address.schema})
    try:
        return await connection.fetch(query, *values)
    finally:
        await connection.close()


def test_a_move_knows_every_column_of_sqlite() -> None:
    found = sqlite_columns(in_memory())
    assert not unknown(found), HOW
    assert found >= KNOWN


async def test_a_move_knows_every_column_of_postgres() -> None:
    rows = await on_postgres(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
    )
    found = {f"{table}.{column}" for table, column in rows}
    assert not unknown(found), HOW
    assert found >= KNOWN


def test_a_migration_that_a_move_does_not_know_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "CREATE TABLE more (x); ALTER TABLE messages ADD COLUMN cost_of_test INTEGER"
    shipped = load_migrations("sqlite")
    monkeypatch.setattr(migrate, "load_migrations", lambda _: [*shipped, (9999, "9999_more", text)])
    assert unknown(sqlite_columns(in_memory())) == {"more.x", "messages.cost_of_test"}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
async def test_statements_read_and_write_the_listed_columns(table: Table) -> None:
    connection = in_memory()
    seen: list[tuple[str, ...]] = []

    def look(cursor: apsw.Cursor, _statement: str, _values: object) -> bool:
        seen.append(tuple(each[0] for each in cursor.get_description()))
        return True

    connection.exec_trace = look
    connection.execute(SQLITE[table.export])
    assert seen == [table.columns]
    written = re.match(rf"INSERT INTO {INTO.get(table.name, table.name)} \(([^)]*)\)\s*VALUES \((.*)\)$", SQLITE[table.load], re.DOTALL)
    assert written is not None
    assert tuple(re.findall(r"\w+", written[1])) == table.columns
    assert tuple(re.findall(r":(\w+)", written[2])) == table.columns
    read = await on_postgres(f"SELECT * FROM ({POSTGRES[table.export]}) AS read RIGHT JOIN (SELECT 1 AS one) AS one ON true")
    assert (*table.columns, "one") == tuple(read[0].keys())


async def test_a_restore_sets_everything_of_ours_aside() -> None:
    found = await on_postgres(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind NOT IN ('i', 't')"
        "   AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_class.oid AND classid = 'pg_class'::regclass"
        "                   AND deptype = 'i')"  # a column's own sequence goes where its table goes
        " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
        " UNION ALL SELECT typname FROM pg_type WHERE typnamespace = current_schema()::regnamespace"
        "           AND typrelid = 0 AND typelem = 0"
    )
    assert {name for (name,) in found} == set(shipped_names("postgres"))


def test_an_emptied_store_is_empty() -> None:
    tables = {each.split(".")[0] for each in sqlite_columns(in_memory())} - {"store", "migrations"}
    assert set(re.findall(r"DELETE FROM (\w+)", SQLITE["empty_store"])) == tables
    assert set(re.findall(r"\w+", POSTGRES["empty_store"])) - {"TRUNCATE"} >= tables - {"kv_large"}


async def test_the_doctor_expects_the_indexes_that_the_migrations_make() -> None:
    found = await on_postgres(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE c.relnamespace = current_schema()::regnamespace"
    )
    assert {name for (name,) in found} - {"migrations_pkey"} == expected_indexes("postgres").keys()
