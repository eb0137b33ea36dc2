"""`async with app.testing() as kit`: an app in memory, on a clock that stands still until the test moves it. Nothing
runs unless the test says so (or, inline, at once), so nothing needs to be waited for."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, TypeVar

from conveyor.jobs.function import JobFunction
from conveyor.jobs.job import Job
from conveyor.model.duration import DAY_MS, Duration, read_duration_ms
from conveyor.model.errors import InvalidDurationError, InvalidSettingError, QueueNotFoundError
from conveyor.model.job import FINAL
from conveyor.model.job_errors import JobFailedError
from conveyor.model.message import Peeked
from conveyor.queue.delivery import Fence
from conveyor.queue.handler import Handler, Takes
from conveyor.queue.outcome import Delivery
from conveyor.store.admission import next_moment
from conveyor.store.jobs import job_name
from conveyor.store.protocol import Store
from conveyor.store.records import ClaimRequest, Ending, Evidence, OwnerInfo
from conveyor.testing.calls import CALLS_MAX, Run, make_call
from conveyor.testing.clock import ManualClock
from conveyor.testing.looking import ANYTHING, Enqueued, Wanted, queue_of, show
from conveyor.testing.memory import KitStore, all_messages
from conveyor.testing.patience import Patient
from conveyor.testing.sync import SyncHarness

if TYPE_CHECKING:
    from conveyor.app import Conveyor

T = TypeVar("T")

Mode: TypeAlias = Literal["manual", "inline"]
"""Whether what is enqueued waits for `drain`, or runs at once."""

TRAVEL_MS_MAX: Final = 3_660 * DAY_MS
DEPTH_MAX: Final = 50
"""Inline, a job that enqueues another waits for it."""


class Harness:
    """What a test does with an app: `drain` handles what is ready, `travel` moves time, `assert_enqueued` looks."""

    def __init__(self, app: Conveyor, mode: Mode = "manual") -> None:
        if mode not in ("manual", "inline"):
            raise InvalidSettingError("mode", mode, 'must be "manual" or "inline"')
        self.app = app
        self.mode: Final = mode
        self.clock = ManualClock()
        self.runs: list[Run] = []
        """Each call of a handler that the kit made, in their order."""
        self._kept = KitStore(self.clock, self._run_inline if mode == "inline" else None)
        self.store: Store = self._kept
        self._chance = Random(0).random
        self._former: Store | None = None
        self._depth = 0
        self._is_circle = False
        self._patient = Patient(lambda: self._depth > 0)

    async def __aenter__(self) -> Self:
        self.begin()
        try:
            await self.app.__aenter__()
        except BaseException:
            self.end()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            await self.app.__aexit__(*error)
        finally:
            self.end()

    def __enter__(self) -> SyncHarness:
        """For a test that is not async: the same kit, without `await`."""
        self._sync = SyncHarness(self)
        return self._sync.__enter__()

    def __exit__(self, *error: object) -> None:
        self._sync.__exit__(*error)

    def begin(self) -> None:
        """Put the app on the kit's store and clock, once; for those who cannot write `async with`."""
        if self._former is not None:
            return
        if self.app.loop is not None:
            raise InvalidSettingError(
                "app", self.app.name, "is open", hint="take `app.testing()` before anything is sent"
            )
        self._former = self.app.use_store(self.store)
        self._patient.begin(self.app.jobs)

    def end(self) -> None:
        """Give the app its own store back."""
        if self._former is not None:
            self._patient.end(self.app.jobs)
            self.app.use_store(self._former)
            self._former = None

    @property
    def now(self) -> datetime:
        """The moment at which the kit's clock stands, in UTC."""
        return moment_of(self.clock.now_ms())

    @property
    def failures(self) -> list[Run]:
        """Those of `runs` that raised; verdicts (`Retry`, `Snooze`, ...) are none."""
        return [each for each in self.runs if each.has_failed]

    async def drain(self, *, within: Duration | None = None, most: int = CALLS_MAX) -> int:
        """Run handlers, one call after another, until nothing is ready; how many calls. Batches do not wait to be full,
        and a message that is to be tried again later waits for `travel`.

        With `within`, time is moved up to so far, from one moment at which something is due to the next, until nothing
        is left at all. AssertionError, which names what is still there: if after that, or after `most` calls, it is.
        """
        calls = await self._run(self.app.handlers(), most)
        if within is None:
            return calls
        until = self.clock.now_ms() + read_duration_ms(within, name="within", most_ms=TRAVEL_MS_MAX)
        while (moment := await self._next_ready()) is not None and moment <= until:
            before = len(self.runs)
            await self._travel_to(moment)
            await self._run(self.app.handlers(), most - calls)
            calls += len(self.runs) - before
        if left := self._left():
            raise AssertionError(f"not drained within {within!r}: {left}")
        return calls

    async def travel(self, duration: Duration) -> None:
        """Move time on. Schedules and alarms are fired and their functions run, each at its own moment; what they send,
        and what else has become ready, waits for `drain`."""
        await self._travel_to(self.clock.now_ms() + read_duration_ms(duration, name="duration", most_ms=TRAVEL_MS_MAX))

    async def travel_to(self, moment: datetime) -> None:
        """Move time on to a moment that has a time zone."""
        if moment.tzinfo is None:
            raise InvalidDurationError("moment", moment, "has no time zone")
        await self.travel(max(0.0, moment.timestamp() - self.clock.now_ms() / 1000))

    async def result(self, job: Job[T]) -> T:
        """Drain, then the job's result. A job that failed raises the very error of its last attempt; one that is not at
        its end an AssertionError that says why."""
        await self.drain()
        if await job.state() not in FINAL:
            raise AssertionError(f"{job!r} is not at its end: {await job.explain()}")
        try:
            return await job.result(timeout=0)
        except JobFailedError as failed:
            error = next((each.error for each in reversed(self.failures) if job.id in each.ids), None)
            if error is None:
                raise
            raise error from failed

    def enqueued(self, of: Enqueued) -> list[Peeked]:
        """The messages of a queue, or a job's, in the order in which they were sent: those that are not final; inline,
        where they are soon, all that were sent since the kit began."""
        queue = queue_of(of)
        kept = all_messages(self.store, queue) if self.mode == "manual" else self._kept.sent_to(queue)
        found = [self.app.sealer.opened(each) for each in kept]
        return [each for each in found if job_name(each.headers) == of.name] if isinstance(of, JobFunction) else found

    def assert_enqueued(
        self, of: Enqueued, *, payload: object = ANYTHING, body: object = ANYTHING, count: int | None = None,
        delay: Duration | None = None, key: str | None = None, priority: int | None = None,
    ) -> None:  # fmt: skip
        """Fails unless such a job, or a message of such a queue, is enqueued; with `count`, so many of them.

        A job has a `payload`, a message a `body`; both are compared as JSON. `delay` is the one it was sent with.
        """
        wanted = Wanted(payload=payload, body=body, delay=delay, key=key, priority=priority)
        try:
            messages = self.enqueued(of)
        except QueueNotFoundError:
            if count == 0:
                return
            raise AssertionError(f"no queue is named `{queue_of(of)}`") from None
        matching = [each for each in messages if wanted.fits(each)]
        if len(matching) == count or (count is None and matching):
            return
        many = "once at least" if count is None else f"{count} times"
        raise AssertionError(f"{show(of)} should be enqueued {many}{wanted}\n{wanted.instead(messages, matching)}")

    def assert_not_enqueued(
        self, of: Enqueued, *, payload: object = ANYTHING, body: object = ANYTHING, delay: Duration | None = None,
        key: str | None = None, priority: int | None = None,
    ) -> None:  # fmt: skip
        """Fails if such a job, or a message of such a queue, is enqueued."""
        self.assert_enqueued(of, payload=payload, body=body, count=0, delay=delay, key=key, priority=priority)

    async def _travel_to(self, until: int) -> None:
        await self._run_timers()
        while (moment := await self._next_moment()) is not None and moment <= until:
            await self.clock.advance((moment - self.clock.now_ms()) / 1000)
            await self._run_timers()
        await self.clock.advance((until - self.clock.now_ms()) / 1000)
        await self.store.sweep()

    async def _run_timers(self) -> None:
        scheduler = self.app.scheduler()
        if scheduler is not None:
            await scheduler.fire_due()
        await self._run([each for each in self.app.handlers() if each.queue in self._timers], CALLS_MAX)

    @property
    def _timers(self) -> tuple[str, str]:
        """The queues whose messages run at their own moments."""
        return self.app.cron_queue, self.app.alarm.queue

    async def _next_moment(self) -> int | None:
        """When something is due of which nobody but the clock knows."""
        ticks = [each.next_tick for each in await self.store.list_schedules() if not each.paused]
        delayed = [each.ready_at for queue in self._timers for each in self._waiting(queue)]
        now = self.clock.now_ms()
        return min((moment for moment in (*ticks, *delayed) if moment is not None and moment > now), default=None)

    def _waiting(self, queue: str) -> list[Peeked]:
        with contextlib.suppress(QueueNotFoundError):
            return all_messages(self.store, queue)
        return []

    async def _next_ready(self) -> int | None:
        """When the next message may go to its handler."""
        now, moments = self.clock.now_ms(), list[int | None]()
        for handler in self.app.handlers():
            if waiting := self._waiting(handler.queue):
                consumer = (await self.store.get_queue(handler.queue)).consumer or handler.settings
                moments += [next_moment(consumer, now, each.ready_at) for each in waiting]
        return min((moment for moment in moments if moment is not None and moment > now), default=None)

    def _left(self) -> str:
        """What lies before handlers, in words; nothing if there is nothing."""
        left: list[str] = []
        for handler in self.app.handlers():
            kinds = Counter(job_name(each.headers) or "messages" for each in self._waiting(handler.queue))
            if kinds:
                left.append(f"`{handler.queue}` holds {', '.join(f'{many} {kind}' for kind, many in kinds.items())}")
        return "; ".join(left)

    async def _run_inline(self, queues: set[str]) -> None:
        """What was sent just now runs; what it raises is raised to the sender."""
        if self._depth and (self._is_circle or self._depth >= DEPTH_MAX):
            self._is_circle = True  # those who wait for it run nothing more
            raise AssertionError(f'inline, {DEPTH_MAX} jobs enqueued each other: take `mode="manual"` and `drain()`')
        before = len(self.runs)
        await self._run([each for each in self.app.handlers() if each.queue in queues], CALLS_MAX)
        for run in self.runs[before:]:
            if run.has_failed and run.error is not None:
                raise run.error

    async def _run(self, handlers: Sequence[Handler], most: int) -> int:
        """As an owner of its own: one that lived on while time was moved would have lost its lease."""
        if not handlers:
            return 0
        info = OwnerInfo(app=self.app.name, host=self.store.host, pid=0, supervisor_pid=0)
        owner = await self.store.register_owner(info)
        calls = 0
        self._is_circle = self._is_circle and self._depth > 0
        self._depth += 1
        try:
            while (made := sum([await self._call(handler, owner) for handler in handlers])) > 0:
                calls += made
                if self._is_circle:
                    break
                if calls > most and (left := self._left()):
                    raise AssertionError(
                        f"not drained after {most:,} calls: {left}. Do handlers send to each other for ever?"
                    )
        finally:
            self._depth -= 1
            await self.store.reap_owner(owner, Evidence(ending=Ending.EXITED))
        return calls

    async def _call(self, handler: Handler, owner: int) -> bool:
        """Give the handler its next message or batch, if there is one."""
        info = await self.store.get_queue(handler.queue)
        settings = info.consumer or handler.settings
        size = settings.max_batch_size if handler.takes is Takes.BATCH else 1
        request = ClaimRequest(queue=handler.queue, owner=owner, limit=size, calls=1, batch_size=size)
        claimed = await self.store.claim(request)
        if not claimed.leases:
            return False
        handler, leases = handler.pick(claimed.leases[0]), claimed.leases
        settings = handler.settings_over(settings, leases[0])
        delivery = Delivery(handler, leases, Fence(owner, self.store.join))
        returned, error, raised = None, None, None
        if delivery.argument is not None:
            returned, error, raised = await make_call(handler, delivery.argument)
        outcome = delivery.judge(returned, error, settings, self._chance)
        ended = {handler.queue: claimed.calls} if claimed.calls else None
        closed = [handler.close(*each, running_ms=0) for each in zip(leases, outcome.settlements, strict=True)]
        self.runs.append(Run.of(leases, raised, closed))
        await self.store.settle(owner, closed, ended=ended)
        return True


def moment_of(value_ms: int) -> datetime:
    return datetime.fromtimestamp(value_ms / 1000, UTC)
