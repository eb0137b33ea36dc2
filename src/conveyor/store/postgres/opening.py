"""Reads the URL, connects, and brings the schema to its present version."""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import asyncpg
import msgspec

from conveyor.model.errors import InvalidSettingError, StoreUnsupportedError
from conveyor.store.migrate import Migration, plan_migrations
from conveyor.store.postgres.faults import translate
from conveyor.store.postgres.statements import SQL, in_schema, quoted
from conveyor.store.postgres.transaction import Connection

DEFAULT_SCHEMA: Final = "conveyor"
POOL_DEFAULT: Final = 5
STATEMENTS_DEFAULT: Final = 200
NUMBER_MOST: Final = 1_000
SERVER_OLDEST: Final = 14
CONNECT_S: Final = 10.0


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL says: where the server is, and how to use it."""

    dsn: str
    schema: str
    pool: int
    statement_cache: int
    where: str
    """For people: without credentials."""


def read_address(url: str) -> Address:
    """`InvalidSettingError`. Ours are `schema`, `pool` and `statement_cache_size`; the other parameters are libpq's."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema = options.pop("schema", DEFAULT_SCHEMA)
    if not 1 <= len(schema.encode()) <= 40 or "\0" in schema:
        hint = "1 to 40 bytes, as in `?schema=conveyor`"
        raise InvalidSettingError("CONVEYOR_URL", schema, "is no schema", hint=hint)
    pool = _number(options.pop("pool", str(POOL_DEFAULT)), least=1)
    statement_cache = _number(options.pop("statement_cache_size", str(STATEMENTS_DEFAULT)), least=0)
    return Address(
        dsn=urlunsplit((*parts[:3], urlencode(options), "")),
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
        connection = await asyncpg.connect(address.dsn, statement_cache_size=address.statement_cache, timeout=CONNECT_S)
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
        if not await connection.fetchval(SQL["knows_migrations"], f"{quoted(address.schema)}.migrations"):
            return True
        await connection.execute(in_schema("use_schema", address.schema))
        return bool(plan_migrations("postgres", await _applied(connection)))


async def _migrate(connection: Connection, address: Address) -> None:
    await connection.execute(SQL["lock_migrations"], address.schema)
    if not await connection.fetchval(SQL["has_schema"], address.schema):
        await connection.execute(in_schema("create_schema", address.schema))
    await connection.execute(in_schema("use_schema", address.schema))
    await connection.execute(SQL["create_migrations"])
    due: list[Migration] = plan_migrations("postgres", await _applied(connection))
    for migration in due:
        await connection.execute(migration.text)
        await connection.execute(SQL["note_migration"], migration.number, migration.name, migration.checksum)
    await connection.execute(SQL["insert_store"], os.urandom(16), os.urandom(32))


async def _applied(connection: Connection) -> dict[int, str]:
    found: list[Any] = await connection.fetch(SQL["applied_migrations"])
    return {number: checksum for number, checksum in found}
