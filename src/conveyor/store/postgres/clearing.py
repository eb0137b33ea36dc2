"""Clears the outbox for those who look after a store, before they copy or close it: what users' transactions have sent
and acked must lie where it belongs."""

from __future__ import annotations

import os

from conveyor.model.clock import SystemClock
from conveyor.model.ids import IdSource
from conveyor.store.postgres.catalog import read_catalog
from conveyor.store.postgres.marks import Marks
from conveyor.store.postgres.opening import Address
from conveyor.store.postgres.outbox import carry_all
from conveyor.store.postgres.statements import SQL, in_schema
from conveyor.store.postgres.transaction import Connection, Transaction
from conveyor.store.postgres.visiting import visit


async def clear_outbox(connection: Connection) -> None:
    """In a transaction that uses the schema and holds the catalog alone."""
    head = await connection.fetchrow(SQL["read_head"], None)
    assert head is not None, "a migrated store has one row"
    now, version = head
    tx = Transaction(connection, IdSource(SystemClock()), Marks(), now, holds_catalog=True)
    tx.catalog = await read_catalog(tx, version)
    await carry_all(tx)
    await tx.finish(os.urandom(16), 1)


async def clear_before(address: Address) -> None:
    """In a transaction of its own; not on a standby, which takes no writes, nor in a store that is not there."""
    async with visit(address) as connection:
        await connection.execute(SQL["begin_alone"])
        await connection.execute(in_schema("use_schema", address.schema))
        if await connection.fetchval(SQL["may_clear"]):
            await connection.execute(SQL["hold_catalog"])
            await clear_outbox(connection)
        await connection.execute("COMMIT")
