"""Alarms in memory: A1."""

from __future__ import annotations

from msgspec.structs import replace

from conveyor.model.beside import AlarmTakenError
from conveyor.model.errors import VersionConflictError
from conveyor.model.ids import MessageId
from conveyor.model.message import Draft
from conveyor.store.memory.belt import Belt
from conveyor.store.memory.rows import AlarmEntry, Message
from conveyor.store.memory.witnessed import changes
from conveyor.store.records import Alarm, AlarmState, alarm_state


class Alarms(Belt):
    """`AlarmStore`."""

    @changes("alarm")
    async def set_alarm(self, name: str, due_at: int, message: Draft, *, was: MessageId | None = None) -> Alarm:
        present = self._tables.alarms.get(name)
        if present is not None and present.queue != message.queue:
            raise AlarmTakenError(name, present.queue)
        if was is not None and (present is None or present.message != was):
            raise VersionConflictError("alarm", name)
        now = self._now()
        self._append([replace(message, delay_ms=max(0, due_at - now))])
        if present is not None:
            self._withdraw(present)
        entry = AlarmEntry(queue=message.queue, message=message.id, due_at=due_at, set_at=now)
        self._tables.alarms[name] = entry
        return self._show_alarm(name, entry)

    async def get_alarm(self, name: str) -> Alarm | None:
        entry = self._tables.alarms.get(name)
        return None if entry is None else self._show_alarm(name, entry)

    async def list_alarms(self, *, limit: int, after: str | None = None, only_parked: bool = False) -> list[Alarm]:
        names = sorted(self._tables.alarms, key=str.encode)
        alarms = [self._show_alarm(name, self._tables.alarms[name]) for name in names if name > (after or "")]
        return [each for each in alarms if not only_parked or each.state is AlarmState.PARKED][:limit]

    @changes("alarm")
    async def cancel_alarm(self, name: str) -> bool:
        entry = self._tables.alarms.pop(name, None)
        if entry is not None:
            self._withdraw(entry)
        return entry is not None

    async def start_alarm(self, name: str, message_id: MessageId) -> Alarm | None:
        entry = self._current(name, message_id)
        return None if entry is None else self._show_alarm(name, entry)

    async def finish_alarm(self, name: str, message_id: MessageId, *, error: str | None) -> bool:
        entry = self._current(name, message_id)
        if entry is None:
            return False
        if error is None:
            del self._tables.alarms[name]
        else:
            entry.failed_at, entry.error = self._now(), error
        return True

    def _current(self, name: str, message_id: MessageId) -> AlarmEntry | None:
        entry = self._tables.alarms.get(name)
        return entry if entry is not None and entry.message == message_id else None

    def _withdraw(self, entry: AlarmEntry) -> None:
        """The message of an alarm that is over, wherever it lies; one that runs is left to end by itself."""
        message = self._message_of(entry)
        if message is not None and not message.leased:
            self._remove(message)

    def _message_of(self, entry: AlarmEntry) -> Message | None:
        return next((each for each in self._tables.messages.values() if each.id == entry.message), None)

    def _show_alarm(self, name: str, entry: AlarmEntry) -> Alarm:
        message = self._message_of(entry)
        is_here = message is not None and message.queue == entry.queue
        waits = message is not None and is_here and not message.leased
        return Alarm(
            name=name,
            queue=entry.queue,
            message_id=entry.message,
            due_at=entry.due_at,
            set_at=entry.set_at,
            state=alarm_state(is_here=is_here, attempts=message.attempts if message is not None and waits else None),
            next_at=message.ready_at if message is not None and waits else None,
            attempts=message.attempts if message is not None and waits else None,
            failed_at=entry.failed_at,
            error=entry.error,
        )
