"""`async with app.testing() as kit`: an app in memory, on a clock that stands still until the test moves it. Nothing
runs unless the test says so, so nothing needs to be waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import msgspec

from conveyor.model.duration import DAY_MS, Duration, read_duration_ms
from conveyor.model.errors import InvalidSettingError, QueueNotFoundError
from conveyor.model.message import ContentType, Peeked
from conveyor.queue.delivery import Fence
from conveyor.queue.dispatch import attempt
from conveyor.queue.encoding import encode_body
from conveyor.queue.handler import Handler, Takes
from conveyor.queue.outcome import Delivery
from conveyor.store.memory import MemoryStore
from conveyor.store.protocol import Store
from conveyor.store.records import ClaimRequest, Ending, Evidence, OwnerInfo
from conveyor.testing.clock import ManualClock

if TYPE_CHECKING:
    from conveyor.app import Conveyor

T = TypeVar("T")

TRAVEL_MS_MAX: Final = 3_660 * DAY_MS
CALLS_MAX: Final = 100_000
"""A drain that goes on for longer has messages that send each other."""
_PAGE: Final = 1_000
_ANYTHING: Final = object()


class Harness:
    """What a test does with an app: `drain` handles what is ready, `travel` moves time, `assert_enqueued` looks."""

    def __init__(self, app: Conveyor) -> None:
        self.app = app
        self.clock = ManualClock()
        self.store: Store = MemoryStore(self.clock)
        self._chance = Random(0).random
        self._former: Store | None = None

    async def __aenter__(self) -> Self:
        if self.app.loop is not None:
            raise InvalidSettingError(
                "app", self.app.name, "is open", hint="take `app.testing()` before anything is sent"
            )
        self._former = self.app.use_store(self.store)
        try:
            await self.app.__aenter__()
        except BaseException:
            self.app.use_store(self._former)
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            await self.app.__aexit__(*error)
        finally:
            assert self._former is not None
            self.app.use_store(self._former)

    async def drain(self) -> int:
        """Run handlers, one call after another, until nothing is ready; how many calls. Batches do not wait to be full,
        and a message that is to be retried later waits for `travel`."""
        return await self._run(self.app.handlers())

    async def travel(self, duration: Duration) -> None:
        """Move time on. Schedules are fired and their functions run, each at its own moment; what they send, and what
        else has become ready, waits for `drain`."""
        until = self.clock.now_ms() + read_duration_ms(duration, name="duration", most_ms=TRAVEL_MS_MAX)
        await self._run_schedules()
        while (moment := await self._next_moment()) is not None and moment <= until:
            await self.clock.advance((moment - self.clock.now_ms()) / 1000)
            await self._run_schedules()
        await self.clock.advance((until - self.clock.now_ms()) / 1000)
        await self.store.sweep()

    def enqueued(self, queue: str) -> list[Peeked]:
        """All messages of a queue that are not final, in the order in which they were sent."""
        found: list[Peeked] = []
        while page := _at_once(self.store.peek(queue, limit=_PAGE, after_seq=found[-1].seq if found else 0)):
            found += page
        return found

    def assert_enqueued(self, queue: str, *, body: object = _ANYTHING, count: int | None = None) -> None:
        """Fails unless the queue holds such a message; with `count`, so many of them."""
        with contextlib.suppress(QueueNotFoundError):
            messages = self.enqueued(queue)
            matching = messages if body is _ANYTHING else [each for each in messages if _has_body(each, body)]
            if len(matching) == count or (count is None and matching):
                return
            shown = [_show(each) for each in messages[:10]]
            wanted = "a message" if count is None else f"{count} messages"
            like = "" if body is _ANYTHING else f" with body {body!r}"
            raise AssertionError(f"queue `{queue}` should hold {wanted}{like}; it holds {len(messages)}: {shown}")
        if count != 0:
            raise AssertionError(f"no queue is named `{queue}`")

    async def _run_schedules(self) -> None:
        scheduler = self.app.scheduler()
        if scheduler is None:
            return
        await scheduler.fire_due()
        await self._run([each for each in self.app.handlers() if each.queue == self.app.cron_queue])

    async def _next_moment(self) -> int | None:
        """When something is due of which nobody but the clock knows."""
        ticks = [each.next_tick for each in await self.store.list_schedules() if not each.paused]
        delayed = [each.ready_at for each in self.enqueued(self.app.cron_queue)] if ticks else []
        now = self.clock.now_ms()
        return min((moment for moment in (*ticks, *delayed) if moment is not None and moment > now), default=None)

    async def _run(self, handlers: Sequence[Handler]) -> int:
        """As an owner of its own: one that lived on while time was moved would have lost its lease."""
        info = OwnerInfo(app=self.app.name, host=self.store.host, pid=0, supervisor_pid=0)
        owner = await self.store.register_owner(info)
        calls = 0
        try:
            while (made := sum([await self._call(handler, owner) for handler in handlers])) > 0:
                calls += made
                if calls > CALLS_MAX:
                    raise AssertionError(
                        f"not drained after {CALLS_MAX:,} calls: do handlers send to each other for ever?"
                    )
        finally:
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
        returned, error = None, None
        if delivery.argument is not None:
            returned, error = await _attempt(handler, delivery.argument)
        outcome = delivery.judge(returned, error, settings, self._chance)
        ended = {handler.queue: claimed.calls} if claimed.calls else None
        closed = [handler.close(*each, running_ms=0) for each in zip(leases, outcome.settlements, strict=True)]
        await self.store.settle(owner, closed, ended=ended)
        return True


async def _attempt(handler: Handler, argument: Any) -> tuple[object, BaseException | None]:
    if not handler.is_async:
        return await asyncio.to_thread(attempt, handler.function, argument)
    try:
        return await handler.function(argument), None
    except Exception as error:  # noqa: BLE001 whatever a handler raises is a failed attempt
        return None, error


def _has_body(message: Peeked, body: object) -> bool:
    if message.content_type is not ContentType.JSON:
        return message.body == (body.encode() if isinstance(body, str) else body)
    encoded, _ = encode_body(body, ContentType.JSON)
    return bool(msgspec.json.decode(message.body) == msgspec.json.decode(encoded))


def _show(message: Peeked) -> str:
    return message.body[:200].decode("utf-8", "replace")


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The memory store never waits, so its answer is there at the first step."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    coroutine.close()
    raise AssertionError("the memory store waited")
