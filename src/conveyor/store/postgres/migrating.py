"""Brings a schema to its present version, while workers of the release before go on.

All that is due runs in one transaction, one process at a time: a kill leaves the old schema or the new one. A change of
a table waits for the transactions that use it, and all later ones wait behind it; so it gives up after 2 s, lets them
through, and tries again.
"""

from __future__ import annotations

import os
from typing import Final

import asyncpg

from conveyor.model.clock import SystemClock
from conveyor.model.errors import StoreBusyError
from conveyor.store.migrate import AppliedMigration, Migration, plan_migrations
from conveyor.store.postgres.opening import Address
from conveyor.store.postgres.statements import SQL, in_schema, quoted
from conveyor.store.postgres.transaction import Connection

PATIENCE_S: Final = 60.0
MIGRATION_S: Final = 86_400.0
"""An index over many millions of rows takes its time, and others wait for it."""
_PAUSE_S: Final = 0.5


async def migrate(connection: Connection, address: Address) -> list[Migration]:
    """Those that ran. What the library raises; `StoreBusyError` if a transaction keeps a table for longer than
    `PATIENCE_S`."""
    return await _migrate_patiently(connection, address) if await _is_due(connection, address) else []


async def _migrate_patiently(connection: Connection, address: Address) -> list[Migration]:
    patience = SystemClock()  # a real server is waited for in real time
    ends_at = patience.monotonic() + PATIENCE_S
    while True:
        try:
            async with connection.transaction():
                await enter_schema(connection, address.schema)
                return await run_due(connection)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if patience.monotonic() > ends_at:
                problem = f"a transaction of somebody's kept `{address.where}` from being migrated for {PATIENCE_S:g} s"
                raise StoreBusyError(address.where, problem=problem, hint="`conveyor doctor` names it") from error
            await patience.sleep(_PAUSE_S)


async def _is_due(connection: Connection, address: Address) -> bool:
    async with connection.transaction():
        applied = await look_applied(connection, address.schema)
        return not applied or bool(plan_migrations("postgres", applied))


async def look_applied(connection: Connection, schema: str) -> list[AppliedMigration]:
    """Those that ran in a schema that may not be there; uses it from here on, if it is. In a transaction."""
    if not await connection.fetchval(SQL["knows_migrations"], f"{quoted(schema)}.migrations"):
        return []
    await connection.execute(in_schema("use_schema", schema))
    return await read_applied(connection)


async def enter_schema(connection: Connection, schema: str) -> None:
    """Alone with its migrations until COMMIT; it is made if need be."""
    await connection.execute(SQL["take_time"])
    await connection.execute(SQL["lock_migrations"], schema, timeout=MIGRATION_S)
    if not await connection.fetchval(SQL["has_schema"], schema):
        await connection.execute(in_schema("create_schema", schema))
    await connection.execute(in_schema("use_schema", schema))


async def run_due(connection: Connection) -> list[Migration]:
    """In the schema that is entered."""
    await connection.execute(SQL["create_migrations"])
    due = plan_migrations("postgres", await read_applied(connection))
    await connection.execute(SQL["wait_little"])
    for migration in due:
        await connection.execute(migration.text, timeout=MIGRATION_S)
        await connection.execute(SQL["note_migration"], migration.number, migration.name, migration.checksum)
    await connection.execute(SQL["insert_store"], os.urandom(16), os.urandom(32))
    return due


async def read_applied(connection: Connection) -> list[AppliedMigration]:
    found = await connection.fetch(SQL["applied_migrations"])
    return [AppliedMigration(number=row[0], name=row[1], checksum=row[2], ran_at=row[3]) for row in found]
