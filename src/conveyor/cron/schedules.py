"""The schedules of an app: declared here, fired by a scheduler, handled as messages of one queue."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from conveyor.audit.act import acting
from conveyor.cron.schedule import Declared, read_choice, read_declared
from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.duration import Duration
from conveyor.model.errors import InvalidSettingError
from conveyor.model.events import Emit
from conveyor.model.ids import IdSource
from conveyor.queue.handler import Handler
from conveyor.store.protocol import Store

if TYPE_CHECKING:
    from conveyor.cron.scheduler import Scheduler

F = TypeVar("F", bound=Callable[..., Any])


class Schedules:
    """What an app's schedules are. Only apps that have some import what reads their expressions."""

    def __init__(
        self,
        app: str,
        store: Callable[[], Store],
        ids: IdSource,
        ensure_open: Callable[[], Awaitable[None]],
        emit: Emit,
        chance: random.Random,
    ) -> None:
        self._app = app
        self.queue: Final = f"{app}-cron"
        """Where the schedules send their messages."""
        self._store = store
        self._ids = ids
        self._ensure_open = ensure_open
        self._emit = emit
        self._chance = chance
        self._declared: dict[str, Declared] = {}
        self._handler: Handler | None = None
        self._scheduler: Scheduler | None = None

    def cron(
        self,
        expression: str,
        *,
        name: str | None = None,
        timezone: str = "UTC",
        syntax: str = "unix",
        misfire: str = "latest",
        overlap: str = "skip",
        jitter: Duration = 0,
        max_retries: int = 0,
    ) -> Callable[[F], F]:
        """Declare a function that runs by the clock; it takes a `CronRun`. `CronSyntaxError`, `InvalidSettingError`."""
        from conveyor.model.cron_expression import CronExpression, Syntax

        parsed = CronExpression.parse(expression, syntax=read_choice(Syntax, "syntax", syntax), timezone=timezone)

        def declare(function: F) -> F:
            declared = read_declared(
                function, parsed, name=name, misfire=misfire, overlap=overlap, jitter=jitter, max_retries=max_retries
            )
            if declared.name in self._declared:
                hint = "give one of them another: `@app.cron(..., name=...)`"
                raise InvalidSettingError("schedule", declared.name, "is declared twice in this app", hint=hint)
            self._declared[declared.name] = declared
            return function

        return declare

    @property
    def declared(self) -> Mapping[str, Declared]:
        """By name."""
        return self._declared

    async def trigger(self, schedule: str, *, correlation_id: str | None = None) -> str:
        """Run a schedule of this app now; the run's correlation id. `ScheduleNotFoundError`."""
        await self._ensure_open()
        if self._scheduler is None:
            raise ScheduleNotFoundError(schedule)
        async with acting(self._store(), "schedule.trigger"):
            return await self._scheduler.trigger(schedule, correlation_id)

    def open(self) -> Scheduler | None:
        """A scheduler on the store as it is now; None if nothing is scheduled."""
        self._scheduler = self._make() if self._declared else None
        return self._scheduler

    def scheduler(self) -> Scheduler | None:
        """What fires the schedules; None if there are none, or the app was never open."""
        return self._scheduler

    def forget_store(self) -> None:
        """The app is to work on another one."""
        self._handler = self._scheduler = None

    def handlers(self) -> Sequence[Handler]:
        """One for all schedules, or none."""
        if not self._declared:
            return ()
        if self._handler is None:
            from conveyor.cron.scheduler import make_cron_handler

            store = self._store().at(self.queue)
            self._handler = make_cron_handler(
                store, self._app, self.queue, self._ensure_open, self._declared, self._emit
            )
        return (self._handler,)

    def _make(self) -> Scheduler:
        from conveyor.cron.scheduler import Scheduler

        declared, store = list(self._declared.values()), self._store().at(self.queue)
        return Scheduler(store, self._ids, self._app, self.queue, declared, emit=self._emit, chance=self._chance)
