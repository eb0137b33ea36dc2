"""Gathers the facts of one schema and its server for `conveyor doctor`: looks only, changes nothing, and stops nowhere
for an error. What could not be read is None, and `refusal` says why.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

import asyncpg
import msgspec

from conveyor.model.clock import SystemClock
from conveyor.model.errors import ConveyorError, StoreError
from conveyor.model.ids import IdSource
from conveyor.store.facts import BeltFacts, Facts, Holder, QueueFacts, ServerFacts, TableFacts
from conveyor.store.host import boot_name
from conveyor.store.migrate import SchemaState, compare_schema, expected_indexes
from conveyor.store.postgres import owners, schedules
from conveyor.store.postgres.catalog import QueueRow, read_catalog
from conveyor.store.postgres.marks import Marks
from conveyor.store.postgres.migrating import look_applied
from conveyor.store.postgres.opening import Address, read_address
from conveyor.store.postgres.statements import SQL, in_schema
from conveyor.store.postgres.sweep import RECEIPT_MS
from conveyor.store.postgres.transaction import Connection, Transaction
from conveyor.store.postgres.visiting import visit
from conveyor.store.records import QueueMetrics

PURGED_ROWS_MAX: Final = 10_000
HEARING_S: Final = 2.0
"""How long a notification is waited for."""


async def examine_schema(address: Address) -> Facts:
    """Everything there is to know."""
    server: ServerFacts | None = None
    schema: SchemaState | None = None
    try:
        async with visit(address) as connection:
            await connection.execute(in_schema("begin_snapshot", address.schema))
            server, drift_ms = await _look_at_server(connection, address)
            schema = compare_schema("postgres", await look_applied(connection, address.schema))
            server = msgspec.structs.replace(server, hears=await _hears(address))
            refusal = _refusal(schema, address)
            if refusal is not None:
                return Facts(server=server, schema=schema, refusal=refusal)
            server = await _look_at_tables(connection, server)
            belt = await _look_at_belt(connection, drift_ms)
        return Facts(server=server, schema=schema, belt=belt)
    except StoreError as error:
        return Facts(server=server, schema=schema, refusal=error.message)
    except (msgspec.MsgspecError, ConveyorError) as error:
        return Facts(server=server, schema=schema, refusal=f"a row cannot be read: {error}")


def _refusal(schema: SchemaState, address: Address) -> str | None:
    if schema.problem is not None:
        return schema.problem
    if not schema.applied:
        return f"there is no store at `{address.where}`"
    return "its schema is older than this release" if schema.due else None


async def _look_at_server(connection: Connection, address: Address) -> tuple[ServerFacts, int]:
    """And how far its clock is before ours."""
    here = SystemClock()
    found: Any = await connection.fetchrow(SQL["read_server"])
    before = here.now_ms()
    now = await connection.fetchval(SQL["read_clock"])
    drift_ms = now - (before + here.now_ms()) // 2
    holders = [Holder(**row) for row in await connection.fetch(SQL["list_holders"])]
    return ServerFacts(where=address.where, now=now, holders=holders, **found), drift_ms


async def _look_at_tables(connection: Connection, server: ServerFacts) -> ServerFacts:
    tables = [TableFacts(**row) for row in await connection.fetch(SQL["list_tables"])]
    indexes = {name: is_valid for name, is_valid in await connection.fetch(SQL["list_indexes"])}
    backlog: Any = await connection.fetchrow(SQL["sum_backlog"])
    return msgspec.structs.replace(
        server,
        tables=tables,
        backlog_messages=backlog[0],
        backlog_bytes=backlog[1],
        missing_indexes={name: how for name, how in expected_indexes("postgres").items() if name not in indexes},
        invalid_indexes=sorted(name for name, is_valid in indexes.items() if not is_valid),
    )


async def _hears(address: Address) -> bool:
    """Whether one connection hears what another one says: behind a pooler that shares sessions it does not."""
    heard = asyncio.Event()
    channel = f"conveyor-doctor:{os.urandom(8).hex()}"

    def hear(*_: object) -> None:
        heard.set()

    around = address if address.listen is None else read_address(address.listen)
    async with visit(around) as listener, visit(address) as speaker:
        await listener.add_listener(channel, hear)
        try:
            async with speaker.transaction():
                await speaker.execute(SQL["notify"], channel, "")
            await asyncio.wait_for(heard.wait(), HEARING_S)
        except (asyncpg.PostgresError, TimeoutError):
            return False
        finally:
            await listener.remove_listener(channel, hear)
        return True


async def _look_at_belt(connection: Connection, drift_ms: int) -> BeltFacts:
    """All in one snapshot."""
    now = SystemClock().now_ms() + drift_ms
    tx = Transaction(connection, IdSource(SystemClock()), Marks(), now, holds_catalog=False)
    tx.catalog = await read_catalog(tx, 0)
    purged = await tx.row("count_purged", PURGED_ROWS_MAX)
    listed = await _list_queues(tx)
    return BeltFacts(
        now=now,
        host=boot_name(),
        is_of_one_host=False,
        clock_drift_ms=drift_ms,
        owners=await owners.list_owners(tx),
        queues=listed,
        schedules=await schedules.list_schedules(tx),
        due_since=await _due_since(tx, listed),
        purged_rows=0 if purged is None else purged[0],
    )


async def _list_queues(tx: Transaction) -> list[QueueFacts]:
    dead: dict[str, int] = {name: count for name, count in await tx.rows("count_dead_letters")}
    rows = list(tx.catalog.rows.values())
    return [
        QueueFacts(info=row.info, metrics=await _measure(tx, row), dead_letters=dead.get(row.name, 0)) for row in rows
    ]


async def _measure(tx: Transaction, row: QueueRow) -> QueueMetrics:
    """As `queues.metrics`, which folds counters on its way."""
    counts = await tx.row("read_counts", row.lane)
    leased = await tx.row("count_leased", row.lane)
    oldest = [await tx.row("oldest_ready_at", row.lane, priority) for priority in row.priorities]
    assert counts is not None
    return QueueMetrics(
        backlog_messages=counts[0],
        backlog_bytes=counts[1],
        oldest_ready_at=min((each[0] for each in oldest if each is not None and each[0] is not None), default=None),
        leased=0 if leased is None else leased[0],
    )


async def _due_since(tx: Transaction, listed: list[QueueFacts]) -> dict[str, int]:
    due = {kind: since for kind, since in await tx.rows("due_since", tx.now, RECEIPT_MS) if since is not None}
    aged = [
        each.metrics.oldest_ready_at + each.info.settings.retention_ms
        for each in listed
        if each.metrics.oldest_ready_at is not None
    ]
    if aged and min(aged) <= tx.now:
        due["messages past their retention"] = min(aged)
    return due
