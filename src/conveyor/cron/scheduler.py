"""Turns due ticks into messages. Any number of processes may run it: the store lets each tick be fired once (C1).

A schedule's message is handled like any other, by `CronHandler`, which calls the function and writes the run's history.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from conveyor.cron.schedule import CronRun, Declared, Misfire, Overlap, Tick
from conveyor.model.beside import ScheduleBusyError, ScheduleNotFoundError
from conveyor.model.duration import DAY_MS, MINUTE_MS
from conveyor.model.errors import ConveyorError, StoreError
from conveyor.model.events import Emit, ScheduleDelayed, ScheduleFailed, ScheduleFired
from conveyor.model.ids import IdSource
from conveyor.model.message import ERROR_CHARS_MAX, Draft
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import RateLimited
from conveyor.queue.delivery import Message
from conveyor.queue.handler import Handler, read_handler
from conveyor.store.protocol import Store
from conveyor.store.records import Fired, Firing, Schedule

MISSED_TICKS_MAX: Final = 100
MISFIRE_GRACE_MS: Final = MINUTE_MS
"""A tick this late was not missed, only late."""
SEARCH_AGAIN_MS: Final = 366 * DAY_MS
"""When an expression that has no tick within five years is looked at again."""
HISTORY_RETRY_S: Final = 1.0
_TOLD: Final = frozenset({Fired.SENT, Fired.SKIPPED, Fired.MISSED})
POLL_S: Final = 5.0
"""How soon a change by another process is seen."""


class Scheduler:
    """Declares an app's schedules and fires what is due, for as long as it runs."""

    def __init__(
        self,
        store: Store,
        ids: IdSource,
        app: str,
        queue: str,
        declared: Sequence[Declared],
        *,
        emit: Emit,
        chance: random.Random,
    ) -> None:
        self._store = store
        self._ids = ids
        self._app = app
        self._queue = queue
        self._declared = {each.name: each for each in declared}
        self._versions: dict[str, int] = {}
        self._emit = emit
        self._chance = chance

    async def declare(self) -> None:
        """Write down what the code says; a changed rule starts from now."""
        for each in self._declared.values():
            now = self._store.clock.now_ms()
            found = each.expression.next_after(now)
            next_tick = now + SEARCH_AGAIN_MS if found is None else found
            schedule = await self._store.declare_schedule(each.draft(self._app, self._queue), next_tick)
            self._versions[each.name] = schedule.version

    async def run(self) -> None:
        """Fire until cancelled."""
        while True:
            await self._store.clock.sleep(await self.fire_due())

    async def fire_due(self) -> float:
        """Fire what is due now; the seconds until it is worth looking again."""
        now = self._store.clock.now_ms()
        wait_ms = POLL_S * 1000
        for schedule in await self._store.list_schedules():
            declared = self._declared.get(schedule.draft.name)
            if declared is None or schedule.paused or schedule.version > self._versions[declared.name]:
                continue
            try:
                next_tick = await self._fire_missed(declared, schedule, now)
            except StoreError:
                raise
            except ConveyorError as error:  # its queue is full, or gone: the others are none the worse for it
                self._emit(ScheduleDelayed(error=f"{declared.name}: {error}"))
                continue
            wait_ms = min(wait_ms, max(0, next_tick - now))
        return wait_ms / 1000

    async def _fire_missed(self, declared: Declared, schedule: Schedule, now: int) -> int:
        """Fire one schedule's due ticks, as its misfire rule says; its next tick."""
        expression = declared.expression
        if schedule.next_tick is None:
            return now + SEARCH_AGAIN_MS
        if schedule.next_tick > now:
            return schedule.next_tick
        found = expression.next_after(now)
        following = now + SEARCH_AGAIN_MS if found is None else found
        ticks = expression.newest_ticks_between(schedule.next_tick - 1, now, limit=MISSED_TICKS_MAX)
        if not ticks:  # no tick at all: a search that ended in nothing left it there, or the zone's rules have changed
            await self.fire(declared, schedule.next_tick, next_tick=following, missed=True)
            return following
        if declared.misfire is not Misfire.ALL:
            ticks = ticks[-1:]
        for tick, next_tick in zip(ticks, [*ticks[1:], following], strict=True):
            missed = declared.misfire is Misfire.NONE and now - tick > MISFIRE_GRACE_MS
            await self.fire(declared, tick, next_tick=next_tick, missed=missed)
        return following

    async def trigger(self, name: str, correlation_id: str | None = None) -> str:
        """Run a schedule now, also while it is paused; the run's correlation id.

        `ScheduleNotFoundError`; `ScheduleBusyError` where its overlap rule skips the run.
        """
        declared = self._declared.get(name)
        if declared is None:
            raise ScheduleNotFoundError(name)
        tick = self._store.clock.now_ms()
        chosen = correlation_id or f"manual-{tick}"
        while (fired := await self._fire_by_hand(declared, tick, chosen)) is Fired.TAKEN:
            tick += 1  # two triggers in one millisecond
        if fired is Fired.SKIPPED:
            raise ScheduleBusyError(name)
        return chosen

    async def _fire_by_hand(self, declared: Declared, tick: int, correlation_id: str) -> Fired:
        return await self.fire(declared, tick, trigger="manual", correlation_id=correlation_id)

    async def fire(
        self,
        declared: Declared,
        tick: int,
        *,
        next_tick: int | None = None,
        trigger: str = "schedule",
        correlation_id: str | None = None,
        missed: bool = False,
    ) -> Fired:
        """One tick, once over all processes."""
        body = Tick(schedule=declared.name, tick=tick, trigger=trigger, correlation_id=correlation_id or f"cron-{tick}")
        firing = Firing(
            schedule=declared.name,
            version=self._versions[declared.name],
            tick=tick,
            next_tick=next_tick,
            message=self._message(declared, body),
            trigger=trigger,
            correlation_id=body.correlation_id,
            missed=missed,
        )
        fired = await self._store.fire(firing)
        if fired in _TOLD:  # not by every process that came too late
            self._emit(ScheduleFired(schedule=declared.name, tick=tick, outcome=fired.value))
        return fired

    def _message(self, declared: Declared, body: Tick) -> Draft:
        jitters = body.trigger == "schedule" and declared.jitter_ms
        return Draft(
            id=self._ids.new(),
            queue=self._queue,
            body=msgspec.json.encode(body),
            delay_ms=self._chance.randrange(declared.jitter_ms + 1) if jitters else 0,
            key=declared.name if declared.overlap is Overlap.QUEUE else None,
            max_retries=declared.max_retries,
        )


class CronHandler:
    """Handles a schedule's messages: calls its function, and writes when the run began, ended and failed."""

    def __init__(
        self, store: Store, ensure_open: Callable[[], Awaitable[None]], declared: Mapping[str, Declared], emit: Emit
    ) -> None:
        self._store = store
        self._ensure_open = ensure_open
        self._declared = declared
        self._emit = emit

    async def __call__(self, message: Message[Tick]) -> None:
        tick = message.body
        declared = self._declared.get(tick.schedule)
        if declared is None:
            raise ScheduleNotFoundError(tick.schedule)
        await self._ensure_open()  # in a child, nobody else has
        await self._begin(tick)
        run = CronRun(
            name=tick.schedule,
            tick=datetime.fromtimestamp(tick.tick / 1000, UTC),
            trigger=tick.trigger,
            correlation_id=tick.correlation_id,
            attempt=message.attempts,
        )
        try:
            await _call(declared.function, run)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
            await self._finish(tick, text)
            self._emit(ScheduleFailed(schedule=tick.schedule, tick=tick.tick, error=text))
            raise
        await self._finish(tick, None)

    async def _begin(self, tick: Tick) -> None:
        try:
            await self._store.begin_run(tick.schedule, tick.tick)
        except StoreError as error:  # nothing has run yet, so this is no attempt
            raise RateLimited(HISTORY_RETRY_S, reason=str(error)) from error

    async def _finish(self, tick: Tick, error: str | None) -> None:
        """Until it is written: a run that went well must not fail for want of its history."""
        while True:
            try:
                await self._store.finish_run(tick.schedule, tick.tick, error=error)
                return
            except StoreError:
                await self._store.clock.sleep(HISTORY_RETRY_S)


def make_cron_handler(
    store: Store,
    app: str,
    queue: str,
    ensure_open: Callable[[], Awaitable[None]],
    declared: Mapping[str, Declared],
    emit: Emit,
) -> Handler:
    """The consumer of an app's schedules."""
    settings = ConsumerSettings(
        script=app,
        max_batch_size=1,
        max_batch_timeout_ms=0,
        max_retries=0,
        dead_letter_queue=f"{queue}-dlq",
        ordered=True,
    )
    return read_handler(queue, CronHandler(store, ensure_open, declared, emit), settings)


async def _call(function: Callable[[CronRun], Any], run: CronRun) -> None:
    if inspect.iscoroutinefunction(function):
        await function(run)
    else:
        returned = await asyncio.to_thread(function, run)
        if inspect.isawaitable(returned):  # a callable object whose call is async
            await returned
