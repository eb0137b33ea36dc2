"""Alarms of a routed store: each lies in the store of its queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from conveyor.model.ids import MessageId
from conveyor.model.message import Draft
from conveyor.store.protocol import Store
from conveyor.store.records import Alarm
from conveyor.store.routed.asking import first_of

T = TypeVar("T")


class PartAlarms:
    """`AlarmStore` of one of the stores."""

    @property
    def _live(self) -> Store:
        raise NotImplementedError

    async def set_alarm(self, name: str, due_at: int, message: Draft, *, was: MessageId | None = None) -> Alarm:
        return await self._live.set_alarm(name, due_at, message, was=was)

    async def get_alarm(self, name: str) -> Alarm | None:
        return await self._live.get_alarm(name)

    async def list_alarms(self, *, limit: int, after: str | None = None, only_parked: bool = False) -> list[Alarm]:
        return await self._live.list_alarms(limit=limit, after=after, only_parked=only_parked)

    async def cancel_alarm(self, name: str) -> bool:
        return await self._live.cancel_alarm(name)

    async def start_alarm(self, name: str, message_id: MessageId) -> Alarm | None:
        return await self._live.start_alarm(name, message_id)

    async def finish_alarm(self, name: str, message_id: MessageId, *, error: str | None) -> bool:
        return await self._live.finish_alarm(name, message_id, error=error)


class RoutedAlarms:
    """`AlarmStore` of all of them. What is asked by name is asked of each in turn; the error of a store that is away
    comes last, since the alarm may lie there."""

    @property
    def _alarm_stores(self) -> Mapping[str, PartAlarms]:
        raise NotImplementedError

    def _alarm_store(self, queue: str) -> PartAlarms:
        raise NotImplementedError

    async def set_alarm(self, name: str, due_at: int, message: Draft, *, was: MessageId | None = None) -> Alarm:
        return await self._alarm_store(message.queue).set_alarm(name, due_at, message, was=was)

    async def get_alarm(self, name: str) -> Alarm | None:
        return await self._first(lambda part: part.get_alarm(name))

    async def list_alarms(self, *, limit: int, after: str | None = None, only_parked: bool = False) -> list[Alarm]:
        found = [
            alarm
            for part in self._alarm_stores.values()
            for alarm in await part.list_alarms(limit=limit, after=after, only_parked=only_parked)
        ]
        return sorted(found, key=lambda alarm: alarm.name.encode())[:limit]

    async def cancel_alarm(self, name: str) -> bool:
        return bool(await self._first(lambda part: part.cancel_alarm(name)))

    async def start_alarm(self, name: str, message_id: MessageId) -> Alarm | None:
        return await self._first(lambda part: part.start_alarm(name, message_id))

    async def finish_alarm(self, name: str, message_id: MessageId, *, error: str | None) -> bool:
        return bool(await self._first(lambda part: part.finish_alarm(name, message_id, error=error)))

    async def _first(self, question: Callable[[PartAlarms], Awaitable[T]]) -> T | None:
        return await first_of(self._alarm_stores.values(), question)
