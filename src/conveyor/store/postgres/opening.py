"""Reads the URL, connects, and brings the schema to its present version. Runs before there is a schema to have statements
of."""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import asyncpg
import msgspec

from conveyor.model.errors import InvalidSettingError, StoreUnsupportedError
from conveyor.store.migrate import Migration, plan_migrations
from conveyor.store.postgres.faults import translate
from conveyor.store.postgres.statements import quoted
from conveyor.store.postgres.transaction import Connection

DEFAULT_SCHEMA: Final = "conveyor"
POOL_DEFAULT: Final = 5
STATEMENTS_DEFAULT: Final = 200
NUMBER_MOST: Final = 1_000
SERVER_OLDEST: Final = 14
CONNECT_S: Final = 10.0

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS migrations (
  number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, ran_at timestamptz NOT NULL DEFAULT now()
)
"""
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))"
_KNOWN: Final = "SELECT to_regclass($1) IS NOT NULL"
_APPLIED: Final = "SELECT number, checksum FROM migrations"
_RAN: Final = "INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, $3)"
_FIRST_ROW: Final = "INSERT INTO store VALUES (1, $1, $2, 0) ON CONFLICT DO NOTHING"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL says: where the server is, and how to use it."""

    dsn: str
    schema: str
    pool: int
    statement_cache: int
    where: str
    """For people: without credentials."""


def read_address(url: str) -> Address:
    """`InvalidSettingError`. Our own parameters are `schema`, `pool` and `statement_cache_size`; the rest are libpq's."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    schema = options.pop("schema", DEFAULT_SCHEMA)
    if not 1 <= len(schema.encode()) <= 40 or "\0" in schema:
        raise InvalidSettingError("CONVEYOR_URL", schema, "is no schema", hint="1 to 40 bytes, as in `?schema=conveyor`")
    pool = _number(options.pop("pool", str(POOL_DEFAULT)), least=1)
    statement_cache = _number(options.pop("statement_cache_size", str(STATEMENTS_DEFAULT)), least=0)
    return Address(
        dsn=urlunsplit(parts._replace(query=urlencode(options))),
        schema=schema,
        pool=pool,
        statement_cache=statement_cache,
        where=f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{unquote(parts.path)}",
    )


def _number(text: str, *, least: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= NUMBER_MOST:
        raise InvalidSettingError("CONVEYOR_URL", text, f"must be a whole number from {least} to {NUMBER_MOST:,}")
    return int(text)


async def connect(address: Address) -> Connection:
    """A `StoreError` if the server cannot be reached or is too old."""
    try:
        connection = await asyncpg.connect(
            address.dsn, statement_cache_size=address.statement_cache, timeout=CONNECT_S
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise translate(error, address.where) from error
    version = connection.get_server_version()
    if version.major < SERVER_OLDEST:
        await connection.close()
        raise StoreUnsupportedError(f"PostgreSQL {version.major} is too old", hint=f"use {SERVER_OLDEST} or newer")
    return connection


async def migrate(address: Address) -> None:
    """All in one transaction, one process at a time: a kill leaves the old schema or the new one."""
    connection = await connect(address)
    try:
        if await _is_due(connection, address):
            async with connection.transaction():
                await _migrate(connection, address)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise translate(error, address.where) from error
    finally:
        await connection.close()


async def _is_due(connection: Connection, address: Address) -> bool:
    async with connection.transaction():
        if not await connection.fetchval(_KNOWN, f"{quoted(address.schema)}.migrations"):
            return True
        await _go_to(connection, address)
        return bool(plan_migrations("postgres", await _applied(connection)))


async def _migrate(connection: Connection, address: Address) -> None:
    await connection.execute(_LOCK, address.schema)
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", quoted(address.schema)):
        await connection.execute(f"CREATE SCHEMA {quoted(address.schema)}")  # asked first: it may be somebody else's to make
    await _go_to(connection, address)
    await connection.execute(_TABLE)
    due: list[Migration] = plan_migrations("postgres", await _applied(connection))
    for migration in due:
        await connection.execute(migration.text)
        await connection.execute(_RAN, migration.number, migration.name, migration.checksum)
    await connection.execute(_FIRST_ROW, os.urandom(16), os.urandom(32))


async def _go_to(connection: Connection, address: Address) -> None:
    await connection.execute(f"SET LOCAL search_path TO {quoted(address.schema)}")


async def _applied(connection: Connection) -> dict[int, str]:
    found: list[Any] = await connection.fetch(_APPLIED)
    return {number: checksum for number, checksum in found}
