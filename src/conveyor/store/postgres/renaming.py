"""A queue gets another name. Its messages, counters, slots and keys lie in its lane, and stay as they are; here is the
rest, which names it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from conveyor.model.beside import QueueNotRenamableError
from conveyor.model.errors import QueueExistsError, VersionConflictError
from conveyor.model.message import SEALED_MARK
from conveyor.model.settings import check_name
from conveyor.store.postgres import catalog, outbox
from conveyor.store.postgres.catalog import QueueRow
from conveyor.store.postgres.schedules import list_schedules
from conveyor.store.postgres.transaction import Row, Transaction
from conveyor.store.records import QueueInfo
from conveyor.store.renaming import KEEPS_ALARMS, KEEPS_DELIVERIES, KEEPS_LETTERS, Redirected, redirect, refers_to

_BY_NAME: Final = ("rename_windows", "rename_tick", "rename_origins", "rename_jobs", "rename_nodes")


async def rename_queue(tx: Transaction, name: str, new: str, version: int | None) -> QueueInfo:
    """`QueueNotFoundError`, `QueueExistsError`, `QueueNotRenamableError`, `VersionConflictError`."""
    check_name("queue", new)
    tx.require_catalog()
    await outbox.carry_all(tx)
    row = tx.catalog.get(name)
    if version is not None and version != row.version:
        raise VersionConflictError("queue", name)
    if new == name:
        return row.info
    if tx.catalog.find(new) is not None:
        raise QueueExistsError(new)
    await tx.flush()
    await _check(tx, row)
    members = _redirected(await tx.rows("drafts_of_queue", name), name, new)
    ends = _redirected(await tx.rows("last_messages"), name, new)
    await tx.run("forget_former", new)
    await tx.run("rename_queue", new, tx.now, name)
    for statement in _BY_NAME:
        await tx.run(statement, new, name)
    await tx.run_many("write_node_draft", [(draft, *place) for place, draft in members])
    await tx.run_many("write_last_message", [(draft, *group) for group, draft in ends])
    await catalog.bump(tx)
    await _follow(tx, name, new)
    renamed = tx.catalog.get(new)
    tx.wake(renamed)
    return renamed.info


async def _check(tx: Transaction, row: QueueRow) -> None:
    found = await tx.row("rings_or_delivers", row.name)
    letters = await tx.row("holds_letters", row.lane, SEALED_MARK, row.name)
    assert found is not None
    assert letters is not None
    rings, delivers = found
    for is_so, (problem, hint) in ((rings, KEEPS_ALARMS), (delivers, KEEPS_DELIVERIES), (letters[0], KEEPS_LETTERS)):
        if is_so:
            raise QueueNotRenamableError(row.name, problem, hint=hint)


def _redirected(found: Iterable[Row], name: str, new: str) -> list[Redirected]:
    """`QueueNotRenamableError` for what is sealed."""
    return [each for row in found if (each := redirect(row, name, new)) is not None]


async def _follow(tx: Transaction, name: str, new: str) -> None:
    """Consumers that send their dead letters or alerts there, and schedules."""
    for row in list(tx.catalog.rows.values()):
        changed = refers_to(row.consumer, name, new)
        if changed is not None:
            await catalog.write(tx, msgspec.structs.replace(row, consumer=changed))
    for schedule in await list_schedules(tx):
        if schedule.draft.queue == name:
            draft = msgspec.structs.replace(schedule.draft, queue=new)
            await tx.run("redeclare_schedule", msgspec.json.encode(draft).decode(), schedule.next_tick, draft.name)
