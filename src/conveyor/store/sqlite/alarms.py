"""A1: alarms. Each has one message, delayed until it is due, whose id is the alarm's generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from conveyor.model.beside import AlarmTakenError
from conveyor.model.errors import VersionConflictError
from conveyor.model.ids import MessageId
from conveyor.model.message import Draft
from conveyor.store.records import Alarm, alarm_state
from conveyor.store.sqlite.append import append
from conveyor.store.sqlite.settle import discard
from conveyor.store.sqlite.transaction import Row, Transaction
from conveyor.store.sqlite.writer import Durability, Writer

T = TypeVar("T")


class Alarms:
    """`AlarmStore`, as the store's front offers it."""

    @property
    def _live(self) -> Writer:
        raise NotImplementedError

    async def _change(self, kind: str, name: str, run: Callable[[Transaction], T]) -> T:
        raise NotImplementedError

    async def set_alarm(self, name: str, due_at: int, message: Draft, *, was: MessageId | None = None) -> Alarm:
        return await self._change("alarm", name, lambda tx: set_alarm(tx, name, due_at, message, was))

    async def get_alarm(self, name: str) -> Alarm | None:
        return await self._live.submit(lambda tx: get_alarm(tx, name), Durability.RELAXED)

    async def list_alarms(self, *, limit: int, after: str | None = None, only_parked: bool = False) -> list[Alarm]:
        return await self._live.submit(
            lambda tx: list_alarms(tx, limit, after, only_parked=only_parked), Durability.RELAXED
        )

    async def cancel_alarm(self, name: str) -> bool:
        return await self._change("alarm", name, lambda tx: cancel_alarm(tx, name))

    async def start_alarm(self, name: str, message_id: MessageId) -> Alarm | None:
        return await self._live.submit(lambda tx: start_alarm(tx, name, message_id), Durability.RELAXED)

    async def finish_alarm(self, name: str, message_id: MessageId, *, error: str | None) -> bool:
        return await self._live.submit(lambda tx: finish_alarm(tx, name, message_id, error))


def set_alarm(tx: Transaction, name: str, due_at: int, message: Draft, was: MessageId | None) -> Alarm:
    tx.flush()
    found = tx.row("read_alarm", name)
    if found is not None and found[1] != message.queue:
        raise AlarmTakenError(name, found[1])
    if was is not None and (found is None or found[2] != was):
        raise VersionConflictError("alarm", name)
    append(tx, [replace(message, delay_ms=max(0, due_at - tx.now))])  # first: it may refuse
    if found is not None:
        _withdraw(tx, found)
    tx.run("put_alarm", name, message.queue, message.id, due_at, tx.now)
    alarm = get_alarm(tx, name)
    assert alarm is not None, "it was set in this transaction"
    return alarm


def get_alarm(tx: Transaction, name: str) -> Alarm | None:
    tx.flush()
    found = tx.row("read_alarm", name)
    return None if found is None else _alarm(found)


def list_alarms(tx: Transaction, limit: int, after: str | None, *, only_parked: bool) -> list[Alarm]:
    tx.flush()
    return [_alarm(found) for found in tx.rows("list_alarms", after or "", only_parked, limit)]


def cancel_alarm(tx: Transaction, name: str) -> bool:
    tx.flush()
    found = tx.row("read_alarm", name)
    if found is None:
        return False
    _withdraw(tx, found)
    tx.run("drop_alarm", name, found[2])
    return True


def start_alarm(tx: Transaction, name: str, message_id: MessageId) -> Alarm | None:
    alarm = get_alarm(tx, name)
    return alarm if alarm is not None and alarm.message_id == message_id else None


def finish_alarm(tx: Transaction, name: str, message_id: MessageId, error: str | None) -> bool:
    if error is None:
        return tx.run("drop_alarm", name, message_id) > 0
    return tx.run("fail_alarm", tx.now, error, name, message_id) > 0


def _withdraw(tx: Transaction, found: Row) -> None:
    """The message of an alarm that is over, wherever it lies; one that runs is left to end by itself."""
    lane, attempts = found[8], found[11]
    row = None if lane is None else tx.catalog.of_lane(tx, lane)
    if row is not None and attempts is not None:
        discard(tx, row.name, [found[7]])


def _alarm(found: Row) -> Alarm:
    name, queue, message_id, due_at, set_at, failed_at, error, _seq, _lane, is_here, ready_at, attempts = found
    return Alarm(
        name=name,
        queue=queue,
        message_id=message_id,
        due_at=due_at,
        set_at=set_at,
        state=alarm_state(is_here=bool(is_here), attempts=attempts),
        next_at=ready_at if is_here and attempts is not None else None,
        attempts=attempts if is_here else None,
        failed_at=failed_at,
        error=error,
    )
