"""C1: schedules, and runs of which there is one per tick, by primary key."""

from __future__ import annotations

from typing import Final

import msgspec

from conveyor.model.beside import ScheduleNotFoundError
from conveyor.store.postgres.append import Depths, append
from conveyor.store.postgres.transaction import Row, Transaction, storable
from conveyor.store.records import Fired, Firing, Run, RunStatus, Schedule, ScheduleDraft

_DRAFT: Final = msgspec.json.Decoder(ScheduleDraft)
_LAST_TICK: Final = 2**62


async def declare_schedule(tx: Transaction, draft: ScheduleDraft, next_tick: int | None) -> Schedule:
    present = await tx.row("read_schedule", draft.name)
    text = msgspec.json.encode(draft).decode()
    if present is None:
        await tx.run("insert_schedule", draft.name, text, next_tick)
    elif _DRAFT.decode(present[0]) != draft:
        await tx.run("redeclare_schedule", text, next_tick, draft.name)
    return await get_schedule(tx, draft.name)


async def list_schedules(tx: Transaction) -> list[Schedule]:
    return [_schedule(found) for found in await tx.rows("list_schedules")]


async def get_schedule(tx: Transaction, name: str) -> Schedule:
    found = await tx.row("read_schedule", name)
    if found is None:
        raise ScheduleNotFoundError(name)
    return _schedule(found)


def _schedule(found: Row) -> Schedule:
    draft, version, next_tick, paused = found
    return Schedule(draft=_DRAFT.decode(draft), version=version, next_tick=next_tick, paused=bool(paused))


async def fire(tx: Transaction, firing: Firing, depths: Depths) -> Fired:
    """The run's row, the message and the next tick, or nothing of them."""
    await tx.row("lock_schedule", firing.schedule)
    schedule = await get_schedule(tx, firing.schedule)
    if firing.version < schedule.version:
        return Fired.STALE
    if schedule.paused and firing.trigger != "manual":
        return Fired.PAUSED
    if await tx.row("find_run", firing.schedule, firing.tick) is not None:
        if firing.next_tick is not None and schedule.next_tick == firing.tick:  # a trigger by hand took this very tick
            await tx.run("write_next_tick", firing.next_tick, firing.schedule)
        return Fired.TAKEN
    fired, status = await _fate(tx, schedule, firing)
    if fired is Fired.SENT:
        await append(tx, [firing.message], depths)  # first: it may refuse, and then nothing may be written
    await tx.run(
        "insert_run",
        *(firing.schedule, firing.tick, firing.trigger, status.value, firing.correlation_id),
        *(firing.message.id if fired is Fired.SENT else None, tx.now),
    )
    if firing.next_tick is not None:
        await tx.run("write_next_tick", firing.next_tick, firing.schedule)
    return fired


async def _fate(tx: Transaction, schedule: Schedule, firing: Firing) -> tuple[Fired, RunStatus]:
    if firing.missed:
        return Fired.MISSED, RunStatus.MISSED
    if schedule.draft.overlap == "skip" and await _is_unfinished(tx, schedule):
        return Fired.SKIPPED, RunStatus.SKIPPED
    return Fired.SENT, RunStatus.QUEUED


async def _is_unfinished(tx: Transaction, schedule: Schedule) -> bool:
    return await tx.row("unfinished_run", schedule.draft.queue, schedule.draft.name) is not None


async def pause_schedule(tx: Transaction, name: str) -> None:
    await get_schedule(tx, name)
    await tx.run("write_schedule_paused", True, name)


async def resume_schedule(tx: Transaction, name: str, next_tick: int | None) -> None:
    await get_schedule(tx, name)
    await tx.run("write_schedule_paused", False, name)
    await tx.run("write_next_tick", next_tick, name)


async def begin_run(tx: Transaction, schedule: str, tick: int) -> None:
    await tx.run("begin_run", tx.now, schedule, tick)


async def finish_run(tx: Transaction, schedule: str, tick: int, error: str | None) -> None:
    status = RunStatus.SUCCEEDED if error is None else RunStatus.FAILED
    await tx.run("finish_run", status.value, tx.now, None if error is None else storable(error), schedule, tick)


async def list_runs(tx: Transaction, schedule: str, limit: int, before_tick: int | None) -> list[Run]:
    queue = (await get_schedule(tx, schedule)).draft.queue
    before = _LAST_TICK if before_tick is None else before_tick
    return [_run(found) for found in await tx.rows("list_runs", queue, schedule, before, limit)]


def _run(found: Row) -> Run:
    schedule, tick, trigger, status, correlation_id, fired_at, started_at, finished_at, error, alive = found
    if finished_at is None and not alive and status in (RunStatus.QUEUED, RunStatus.RUNNING):
        status, error = RunStatus.FAILED, "ended without a word"
    return Run(
        schedule=schedule,
        tick=tick,
        trigger=trigger,
        status=RunStatus(status),
        correlation_id=correlation_id,
        fired_at=fired_at,
        started_at=started_at,
        finished_at=finished_at,
        error=error,
    )
