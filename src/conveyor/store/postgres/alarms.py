"""A1: alarms. Each has one message, delayed until it is due, whose id is the alarm's generation."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from conveyor.model.beside import AlarmTakenError
from conveyor.model.errors import VersionConflictError
from conveyor.model.ids import MessageId
from conveyor.model.message import Draft
from conveyor.store.postgres.append import Depths, append
from conveyor.store.postgres.front import Front
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.settle import discard
from conveyor.store.postgres.transaction import Row, Transaction, storable
from conveyor.store.records import Alarm, alarm_state

T = TypeVar("T")


class Alarms(Front):
    """`AlarmStore`, as the store's front offers it."""

    _depths: Depths

    async def set_alarm(self, name: str, due_at: int, message: Draft, *, was: MessageId | None = None) -> Alarm:
        return await self._change(
            "alarm", name, lambda tx: set_alarm(tx, name, due_at, message, was, self._depths)
        )

    async def get_alarm(self, name: str) -> Alarm | None:
        return await self._run(lambda tx: get_alarm(tx, name), Durability.RELAXED)

    async def list_alarms(self, *, limit: int, after: str | None = None, only_parked: bool = False) -> list[Alarm]:
        return await self._run(
            lambda tx: list_alarms(tx, limit, after, only_parked=only_parked), Durability.RELAXED
        )

    async def cancel_alarm(self, name: str) -> bool:
        return await self._change("alarm", name, lambda tx: cancel_alarm(tx, name))

    async def start_alarm(self, name: str, message_id: MessageId) -> Alarm | None:
        return await self._run(lambda tx: start_alarm(tx, name, message_id), Durability.RELAXED)

    async def finish_alarm(self, name: str, message_id: MessageId, *, error: str | None) -> bool:
        return await self._run(lambda tx: finish_alarm(tx, name, message_id, error))


async def set_alarm(
    tx: Transaction, name: str, due_at: int, message: Draft, was: MessageId | None, depths: Depths
) -> Alarm:
    found = await _hold(tx, name)
    if found is not None and found[1] != message.queue:
        raise AlarmTakenError(name, found[1])
    if was is not None and (found is None or found[2] != was):
        raise VersionConflictError("alarm", name)
    await append(tx, [replace(message, delay_ms=max(0, due_at - tx.now))], depths)  # first: it may refuse
    await tx.flush()
    if found is not None:
        await _withdraw(tx, found)
    await tx.run("put_alarm", name, message.queue, message.id, due_at, tx.now)
    alarm = await get_alarm(tx, name)
    assert alarm is not None, "it was set in this transaction"
    return alarm


async def get_alarm(tx: Transaction, name: str) -> Alarm | None:
    found = await tx.row("read_alarm", name)
    return None if found is None else _alarm(found)


async def list_alarms(tx: Transaction, limit: int, after: str | None, *, only_parked: bool) -> list[Alarm]:
    return [_alarm(found) for found in await tx.rows("list_alarms", after or "", only_parked, limit)]


async def cancel_alarm(tx: Transaction, name: str) -> bool:
    found = await _hold(tx, name)
    if found is None:
        return False
    await _withdraw(tx, found)
    await tx.run("drop_alarm", name, found[2])
    return True


async def start_alarm(tx: Transaction, name: str, message_id: MessageId) -> Alarm | None:
    found = await _hold(tx, name)
    alarm = None if found is None else _alarm(found)
    return alarm if alarm is not None and alarm.message_id == message_id else None


async def finish_alarm(tx: Transaction, name: str, message_id: MessageId, error: str | None) -> bool:
    if error is None:
        return await tx.run("drop_alarm", name, message_id) > 0
    return await tx.run("fail_alarm", tx.now, storable(error), name, message_id) > 0


async def _hold(tx: Transaction, name: str) -> Row | None:
    await tx.row("lock_alarm", name)
    return await tx.row("read_alarm", name)


async def _withdraw(tx: Transaction, found: Row) -> None:
    """The message of an alarm that is over, wherever it lies; one that runs is left to end by itself."""
    lane, attempts = found[8], found[11]
    row = None if lane is None else tx.catalog.of_lane(lane)
    if row is not None and attempts is not None:
        await discard(tx, row.name, [found[7]])


def _alarm(found: Row) -> Alarm:
    name, queue, message_id, due_at, set_at, failed_at, error, _seq, _lane, is_here, ready_at, attempts = found
    return Alarm(
        name=name,
        queue=queue,
        message_id=MessageId(message_id),
        due_at=due_at,
        set_at=set_at,
        state=alarm_state(is_here=bool(is_here), attempts=attempts),
        next_at=ready_at if is_here and attempts is not None else None,
        attempts=attempts if is_here else None,
        failed_at=failed_at,
        error=error,
    )
