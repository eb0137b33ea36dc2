"""Calls the handlers: on the loop, in a thread or in a child, each call in a task of its own, and one settlement
for each of its messages whatever the handler does. A call that we cut short is told apart from one that failed by
itself."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from random import Random
from typing import Any, Final, TypeAlias, assert_never

from conveyor.model.errors import HandlerTimeoutError
from conveyor.model.events import Emit, MessageFailed
from conveyor.model.message import Lease
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Action, Judged, Settlement
from conveyor.queue.delivery import Fence, Message
from conveyor.queue.handler import Handler, RunIn, Takes
from conveyor.queue.isolation import ChildRequest, ChildUnusable, Crashed, Isolation
from conveyor.queue.outcome import Delivery, Outcome, Released, judge_one, release, settle_as
from conveyor.store.jobs import job_name

CHILD_PAUSE_MS: Final = 5_000
"""Before a message is offered again to a child that could not even start."""


class Interruption(Enum):
    """Why a call is cut short."""

    SHUTDOWN = "shutdown"
    TIMEOUT = "timeout"
    LOST = "lost"


class Call:
    """One handler call on its way."""

    __slots__ = (
        "handler", "has_begun", "interrupted_at", "interruption", "is_lost", "is_overdue", "leases", "messages",
        "run_in", "settings", "slots", "started_at", "task",
    )  # fmt: skip

    def __init__(
        self, handler: Handler, leases: Sequence[Lease], settings: ConsumerSettings, run_in: RunIn, started_at: float
    ) -> None:
        self.handler = handler
        self.leases = leases
        self.settings = settings
        self.run_in = run_in
        self.started_at = started_at
        self.slots: Sequence[int] = ()
        self.messages: Sequence[Message[Any]] = ()
        self.task: asyncio.Task[None] | None = None
        self.has_begun = False
        self.interruption: Interruption | None = None
        self.interrupted_at = 0.0
        self.is_overdue = False
        self.is_lost = False
        """Its leases ended while it ran."""

    @property
    def timeout_s(self) -> float:
        return self.settings.timeout_ms / 1000

    @property
    def message_ids(self) -> tuple[str, ...]:
        return tuple(lease.id.hex() for lease in self.leases)


Attempt: TypeAlias = tuple[object, BaseException | None]
"""What a function returned, or what it raised."""
OnEnd: TypeAlias = Callable[[Call, Sequence[Settlement]], None]
"""Told once of every call, when its handler is over. No settlements: the leases are lost, there is nothing to say."""


class Dispatcher:
    """Runs calls; `concurrency` bounds its threads."""

    def __init__(
        self, random: Random, emit: Emit, isolation: Isolation | None, fence: Fence, *, concurrency: int, on_end: OnEnd
    ) -> None:
        self._chance = random.random
        self._emit = emit
        self._isolation = isolation
        self._fence = fence
        self._concurrency = concurrency
        self._on_end = on_end
        self._threads: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    def start(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the call in a task of its own; to be called outside of any handler's context."""
        if call.run_in is RunIn.LOOP and call.handler.takes is Takes.MESSAGE:
            call.task = loop.create_task(self._run_message(call))
        else:
            call.task = loop.create_task(self._run(call))

    def interrupt(self, call: Call, why: Interruption, now: float) -> None:
        """Cut the call short, as far as that can be done: a thread is only told, unless the worker itself ends."""
        if why is Interruption.LOST:
            for message in call.messages:
                message.lease_lost = True
        if call.interruption is not None or (call.run_in is RunIn.THREAD and why is not Interruption.SHUTDOWN):
            return
        call.interruption, call.interrupted_at = why, now
        if call.has_begun and call.task is not None:
            call.task.cancel()  # one that has not begun looks by itself

    def close(self) -> None:
        """No more threads are started; those that run are left to their end."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run_message(self, call: Call) -> None:
        """The plain way, and the hot one: one message, on the loop."""
        if call.interruption is not None:
            self._finish(call, self._released(call))
            return
        call.has_begun = True
        handler, lease = call.handler, call.leases[0]
        error: BaseException | None = None
        returned: object = None
        message: Message[Any] | None = None
        try:
            message = Message(lease, handler.reader.read_lease(lease), None, self._fence)
            call.messages = (message,)
            returned = await handler.function(message)
        except BaseException as caught:  # noqa: BLE001  # also SystemExit and KeyboardInterrupt: they end this call, not the worker
            error = caught
        if os.getpid() != self._pid:
            os._exit(0)  # the handler forked, and this is the copy
        if error is None and call.interruption is None and message is not None and message.verdict is None:
            if returned is None:
                self._on_end(call, (Settlement(lease.seq, lease.claim),))
                return
            if type(returned) is Judged and returned.action is Action.ACK:
                self._on_end(call, (Settlement(lease.seq, lease.claim, outcome=returned.outcome),))
                return
        error = self._cause(call, error)
        self._finish(call, judge_one(lease, message, returned, error, call.settings, self._chance))

    async def _run(self, call: Call) -> None:
        if call.interruption is not None:
            self._finish(call, self._released(call))
            return
        call.has_begun = True
        if call.run_in is RunIn.PROCESS:
            self._finish(call, await self._in_child(call))
            return
        delivery = Delivery(call.handler, call.leases, self._fence)
        call.messages = delivery.messages
        returned, error = None, None
        if delivery.argument is not None:
            returned, error = await self._attempt(call, delivery.argument)
        if os.getpid() != self._pid:
            os._exit(0)
        error = self._cause(call, error)
        self._finish(call, delivery.judge(returned, error, call.settings, self._chance))

    async def _attempt(self, call: Call, argument: object) -> Attempt:
        try:
            if call.run_in is RunIn.THREAD:
                return await self._in_thread(call.handler.function, argument)
            return await call.handler.function(argument), None
        except BaseException as caught:  # noqa: BLE001  # whatever it is, it is judged
            return None, caught

    async def _in_thread(self, function: Callable[[Any], Any], argument: object) -> Attempt:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="conveyor-handler")
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: context.run(attempt, function, argument))

    async def _in_child(self, call: Call) -> Outcome:
        assert self._isolation is not None, "the worker lets no call into a child that there is not"
        request = ChildRequest(
            queue=call.handler.queue, owner=self._fence.owner, leases=list(call.leases), settings=call.settings,
            chance=self._chance(),
        )  # fmt: skip
        try:
            answer = await self._isolation.run(request)
        except BaseException as caught:  # noqa: BLE001  # our own cancellation; the child is dead by now
            return self._all(call, self._cause(call, caught) or caught)
        match answer:
            case Outcome():
                return answer
            case Crashed():
                return Outcome(settlements=[_crash(lease, answer.detail) for lease in call.leases])
            case ChildUnusable():
                return Outcome(settlements=[release(lease, CHILD_PAUSE_MS) for lease in call.leases])
            case _:
                assert_never(answer)

    def _cause(self, call: Call, error: BaseException | None) -> BaseException | None:
        """Why a call came to its end, which may be us rather than what it raised."""
        match call.interruption:
            case None:
                if isinstance(error, GeneratorExit) and not _is_loop_running():
                    raise error  # the loop was closed over our heads
                return error
            case Interruption.TIMEOUT:
                return HandlerTimeoutError(call.handler.queue, call.timeout_s)
            case Interruption.SHUTDOWN | Interruption.LOST:
                return None if error is None else Released()
            case _:
                assert_never(call.interruption)

    def _released(self, call: Call) -> Outcome:
        return self._all(call, Released())

    def _all(self, call: Call, said: BaseException) -> Outcome:
        return Outcome(settlements=[settle_as(lease, said, said, call.settings, self._chance) for lease in call.leases])

    def _finish(self, call: Call, outcome: Outcome) -> None:
        for event in outcome.ignored:
            self._emit(event)
        if outcome.raised is not None:
            self._emit(outcome.raised)
        if call.interruption is Interruption.LOST:
            self._on_end(call, ())
            return
        for lease, settlement in zip(call.leases, outcome.settlements, strict=True):
            if settlement.error is not None and settlement.action in (Action.RETRY, Action.CRASH):
                job = job_name(lease.headers)
                self._emit(
                    MessageFailed(
                        queue=lease.queue, message_id=lease.id.hex(), attempt=lease.attempts,
                        error=settlement.error, delay_ms=settlement.delay_ms,
                        job_id=None if job is None else lease.id.hex(), job=job,
                    )
                )  # fmt: skip
        self._on_end(call, outcome.settlements)


def attempt(function: Callable[[Any], Any], argument: object) -> Attempt:
    """Call a plain function, in whatever thread or process this is; nothing it raises gets out."""
    pid = os.getpid()
    try:
        result: Attempt = function(argument), None
    except BaseException as caught:  # noqa: BLE001  # whatever it is, it is judged
        result = None, caught
    if os.getpid() != pid:
        os._exit(0)  # the handler forked, and this is the copy
    if inspect.iscoroutine(result[0]):
        result[0].close()
    return result


def _crash(lease: Lease, detail: str) -> Settlement:
    return Settlement(lease.seq, lease.claim, Action.CRASH, error=detail)


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
