"""Schedules and their runs in memory: C1."""

from __future__ import annotations

from conveyor.model.beside import ScheduleNotFoundError
from conveyor.store.memory.belt import Belt
from conveyor.store.memory.rows import RunEntry, ScheduleEntry
from conveyor.store.memory.witnessed import changes
from conveyor.store.records import Fired, Firing, Run, RunStatus, Schedule, ScheduleDraft

_UNFINISHED = (RunStatus.QUEUED, RunStatus.RUNNING)


class Schedules(Belt):
    """`ScheduleStore`."""

    @changes("schedule", lambda draft, *_rest: draft.name)
    async def declare_schedule(self, draft: ScheduleDraft, next_tick: int | None) -> Schedule:
        entry = self._tables.schedules.get(draft.name)
        if entry is None:
            entry = ScheduleEntry(draft=draft, version=1, next_tick=next_tick)
            self._tables.schedules[draft.name] = entry
        elif entry.draft != draft:
            entry.draft, entry.next_tick = draft, next_tick
            entry.version += 1
        return _show(entry)

    async def list_schedules(self) -> list[Schedule]:
        return [_show(self._tables.schedules[name]) for name in sorted(self._tables.schedules)]

    async def get_schedule(self, name: str) -> Schedule:
        return _show(self._schedule(name))

    def _schedule(self, name: str) -> ScheduleEntry:
        entry = self._tables.schedules.get(name)
        if entry is None:
            raise ScheduleNotFoundError(name)
        return entry

    @changes("schedule", lambda firing: firing.schedule)
    async def fire(self, firing: Firing) -> Fired:
        entry = self._schedule(firing.schedule)
        if firing.version < entry.version:
            return Fired.STALE
        if entry.paused and firing.trigger != "manual":
            return Fired.PAUSED
        if (firing.schedule, firing.tick) in self._tables.runs:
            if firing.next_tick is not None and entry.next_tick == firing.tick:  # a trigger by hand took this very tick
                entry.next_tick = firing.next_tick
            return Fired.TAKEN
        fired, status = self._fate(entry, firing)
        message = self._append([firing.message])[0].id if fired is Fired.SENT else firing.message.id
        self._tables.runs[firing.schedule, firing.tick] = RunEntry(
            status=status,
            trigger=firing.trigger,
            correlation_id=firing.correlation_id,
            fired_at=self._now(),
            queue=firing.message.queue,
            message=message,
        )
        if firing.next_tick is not None:
            entry.next_tick = firing.next_tick
        return fired

    def _fate(self, entry: ScheduleEntry, firing: Firing) -> tuple[Fired, RunStatus]:
        if firing.missed:
            return Fired.MISSED, RunStatus.MISSED
        if entry.draft.overlap == "skip" and self._is_running(firing.schedule):
            return Fired.SKIPPED, RunStatus.SKIPPED
        return Fired.SENT, RunStatus.QUEUED

    def _is_running(self, schedule: str) -> bool:
        return any(self._has_message(run) for (name, _), run in self._tables.runs.items() if name == schedule)

    def _has_message(self, run: RunEntry) -> bool:
        """Whether its message is where it was sent to; a dead letter is over."""
        return any(message.id == run.message for message in self._tables.in_queue(run.queue))

    @changes("schedule")
    async def pause_schedule(self, name: str) -> None:
        self._schedule(name).paused = True

    @changes("schedule")
    async def resume_schedule(self, name: str, next_tick: int | None) -> None:
        entry = self._schedule(name)
        entry.paused, entry.next_tick = False, next_tick

    async def begin_run(self, schedule: str, tick: int) -> None:
        run = self._tables.runs.get((schedule, tick))
        if run is not None:
            run.status, run.started_at = RunStatus.RUNNING, self._now()
            run.finished_at = run.error = None

    async def finish_run(self, schedule: str, tick: int, *, error: str | None) -> None:
        run = self._tables.runs.get((schedule, tick))
        if run is not None:
            run.status = RunStatus.SUCCEEDED if error is None else RunStatus.FAILED
            run.finished_at, run.error = self._now(), error

    async def list_runs(self, schedule: str, *, limit: int, before_tick: int | None = None) -> list[Run]:
        self._schedule(schedule)
        ticks = sorted((tick for name, tick in self._tables.runs if name == schedule), reverse=True)
        earlier = [tick for tick in ticks if before_tick is None or tick < before_tick]
        return [self._show_run(schedule, tick) for tick in earlier[:limit]]

    def _show_run(self, schedule: str, tick: int) -> Run:
        run = self._tables.runs[schedule, tick]
        is_silent = run.status in _UNFINISHED and not self._has_message(run)
        return Run(
            schedule=schedule,
            tick=tick,
            trigger=run.trigger,
            status=RunStatus.FAILED if is_silent else run.status,
            correlation_id=run.correlation_id,
            fired_at=run.fired_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            error="ended without a word" if is_silent else run.error,
        )


def _show(entry: ScheduleEntry) -> Schedule:
    return Schedule(draft=entry.draft, version=entry.version, next_tick=entry.next_tick, paused=entry.paused)
