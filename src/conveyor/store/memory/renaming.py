"""A queue gets another name, in memory: whatever bears the old one says the new one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from conveyor.model.beside import QueueNotRenamableError
from conveyor.model.errors import QueueExistsError, VersionConflictError
from conveyor.model.settings import check_name
from conveyor.store.memory.limits import Limits
from conveyor.store.memory.rows import GroupEntry, Tables
from conveyor.store.memory.witnessed import changes
from conveyor.store.records import QueueInfo
from conveyor.store.renaming import KEEPS_ALARMS, KEEPS_DELIVERIES, check_body, redirected, refers_to

K = TypeVar("K")
V = TypeVar("V")


class Renaming(Limits):
    """`rename_queue`."""

    @changes("queue")
    async def rename_queue(self, name: str, new: str, *, version: int | None = None) -> QueueInfo:
        check_name("queue", new)
        queue, tables = self._queue(name), self._tables
        if version is not None and version != queue.version:
            raise VersionConflictError("queue", name)
        if new == name:
            return queue.info()
        if new in tables.queues:
            raise QueueExistsError(new)
        _check(tables, name)
        _redirect(tables.groups.values(), name, new)  # first: it may refuse
        self._forget_former(new)
        del tables.queues[name]
        tables.queues[new] = queue
        queue.name, queue.first_name = new, queue.first_name or name
        queue.former.add(name)
        _rename_rows(tables, name, new)
        self._lead_others(name, new)
        queue.version, queue.modified_at = next(tables.versions), self._now()
        self._wake(new)
        return queue.info()

    def _lead_others(self, name: str, new: str) -> None:
        """Consumers that send their dead letters or alerts there, and schedules."""
        for other in self._tables.queues.values():
            changed = refers_to(other.consumer, name, new)
            if changed is not None:
                other.consumer = changed
                other.version, other.modified_at = next(self._tables.versions), self._now()
        for schedule in self._tables.schedules.values():
            if schedule.draft.queue == name:
                schedule.draft = replace(schedule.draft, queue=new)
                schedule.version += 1


def _check(tables: Tables, name: str) -> None:
    """`QueueNotRenamableError`."""
    for found, (problem, hint) in ((tables.alarms, KEEPS_ALARMS), (tables.deliveries, KEEPS_DELIVERIES)):
        if any(each.queue == name for each in found.values()):
            raise QueueNotRenamableError(name, problem, hint=hint)
    for body in _bodies_of(tables, name):
        check_body(name, body)


def _bodies_of(tables: Tables, name: str) -> Iterator[bytes | None]:
    """What may be sealed for the queue: messages, its dead letters, and what is kept of its jobs."""
    for message in tables.messages.values():
        if name in (message.queue, message.dead and message.dead.origin_queue):
            yield message.body
    for id, job in tables.jobs.items():
        if job.queue == name:
            yield job.result
            yield from (step.value for step in tables.steps.get(id, {}).values())
            yield from (event.payload for event in tables.events.get(id, {}).values())


def _redirect(groups: Iterable[GroupEntry], name: str, new: str) -> None:
    """Members that are still to be sent there, and what is still to tell of a group's end."""
    live = [group for group in groups if group.group.ended_at is None]
    ends = [(group, text) for group in live if (text := _changed(group.on_complete, name, new)) is not None]
    members = [each for group in live for each in group.members]
    drafts = [(each, text) for each in members if (text := _changed(each.draft, name, new)) is not None]
    for group, text in ends:
        group.on_complete = text
    for member, text in drafts:
        member.draft = text


def _changed(draft: bytes | None, name: str, new: str) -> bytes | None:
    return None if draft is None else redirected(draft, name, new)


def _rename_rows(tables: Tables, name: str, new: str) -> None:
    for message in tables.messages.values():
        if message.queue == name:
            message.queue = new
        if message.dead is not None and message.dead.origin_queue == name:
            message.dead = replace(message.dead, origin_queue=new)
    for run in tables.runs.values():
        if run.queue == name:
            run.queue = new
    for id, job in tables.jobs.items():
        if job.queue == name:
            tables.jobs[id] = replace(job, queue=new)
    for entry in tables.members.values():
        if entry.member.queue == name:
            entry.member = replace(entry.member, queue=new)
    _rename_keys(tables.dedupes, name, new)
    _rename_keys(tables.slots, name, new)
    _rename_keys(tables.windows, name, new)
    _rename_keys(tables.rests, name, new)
    _rename_keys(tables.lines, name, new)
    if name in tables.ticks:
        tables.ticks[new] = tables.ticks.pop(name)


def _rename_keys(rows: dict[tuple[str, K], V], name: str, new: str) -> None:
    """Of a table by queue and something else."""
    for key in [key for key in rows if key[0] == name]:
        rows[new, key[1]] = rows.pop(key)
