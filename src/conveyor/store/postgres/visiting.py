"""A connection for those who look after a store: it has no pool and no limits of time, and goes where the store itself
would not: to a standby, or behind any pooler."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from conveyor.model.errors import StoreUnsupportedError
from conveyor.store.postgres.faults import translate
from conveyor.store.postgres.opening import CONNECT_S, SERVER_OLDEST, Address
from conveyor.store.postgres.transaction import Connection


@contextlib.asynccontextmanager
async def visit(address: Address) -> AsyncIterator[Connection]:
    """A transaction that is open at the end is rolled back. Raises a `StoreError`."""
    try:
        connection = await asyncpg.connect(address.dsn, statement_cache_size=0, timeout=CONNECT_S)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise translate(error, address.where) from error
    try:
        major = connection.get_server_version().major
        if major < SERVER_OLDEST:
            raise StoreUnsupportedError(f"PostgreSQL {major} is too old", hint=f"use {SERVER_OLDEST} or newer")
        yield connection
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError) as error:
        raise translate(error, address.where) from error
    finally:
        with contextlib.suppress(Exception):
            await connection.close(timeout=5)
