"""One durable timer per name: `app.alarm("cart-42").set("30m")`, and a function that it rings.

An alarm is a message of the queue `<app>-alarms` that is delayed until it is due, and a row that says which message
that is (A1). Setting it again withdraws the message and sends another, so that the former never starts; retries,
crashes and dead letters are the queue's own.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

import msgspec

from conveyor.audit.act import acting
from conveyor.model.beside import AlarmNotFoundError, AlarmTakenError
from conveyor.model.duration import DAY_MS, Duration, read_duration_ms
from conveyor.model.errors import (
    ConflictError,
    InvalidDurationError,
    InvalidSettingError,
    NotFoundError,
    QueueNotFoundError,
    StoreError,
)
from conveyor.model.ids import IdSource, MessageId
from conveyor.model.message import ERROR_CHARS_MAX, KEY_CHARS_MAX, Draft
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Backoff, RateLimited, Reject, Retry
from conveyor.queue.delivery import Message
from conveyor.queue.handler import Handler, read_handler
from conveyor.store import records
from conveyor.store.protocol import Store
from conveyor.store.records import AlarmState

F = TypeVar("F", bound=Callable[..., Any])

RETRIES: Final = 6
BACKOFF: Final = Backoff(base_ms=2_000, factor=2.0, most_ms=1_024_000)
"""2, 4, 8, 16, 32, 64 s, as Cloudflare's."""
EXTRA: Final = 0.25
"""Up to so much of the delay is added, so that alarms that failed together are not tried together."""
AHEAD_MS_MAX: Final = 36_500 * DAY_MS
STORE_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRun:
    """What an alarm's function is given."""

    name: str
    due: datetime
    """The moment for which it was set, in UTC; a retry does not change it."""
    attempt: int
    """1 at first."""

    @property
    def is_retry(self) -> bool:
        return self.attempt > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmInfo:
    """How an alarm stands."""

    name: str
    state: AlarmState
    due: datetime
    next: datetime | None
    """When it rings, or is tried again; None while it runs, and where it is parked."""
    failed_at: datetime | None
    error: str | None
    """Of the last failure since it was set."""


class Ring(msgspec.Struct, frozen=True):
    """The body of an alarm's message; its id is the generation."""

    alarm: str


class Alarm:
    """An alarm by its name, whether or not it is set."""

    __slots__ = ("_room", "name")

    def __init__(self, room: Alarms, name: str) -> None:
        self._room = room
        self.name = name

    async def set(self, when: datetime | Duration) -> datetime:
        """Ring at a moment, or after a duration; what is past rings at once. It replaces what was set before. The
        moment; `InvalidDurationError`, and `InvalidSettingError` if no handler takes this name."""
        store = await self._room.open_store()
        self._room.check_handled(self.name)
        due_at = read_due(when, store.clock.now_ms())
        message = make_ring(self._room.ids, self._room.queue, self.name)
        try:
            await store.set_alarm(self.name, due_at, message)
        except QueueNotFoundError as error:
            raise InvalidSettingError(
                "alarm", self.name, "no process of this app handles alarms", hint=_DECLARE.format(self.name)
            ) from error
        return _moment(due_at)

    async def get(self) -> datetime | None:
        """When it rings, or is tried again. None if it is not set, while its function runs unless that has set it
        again, and where it is parked (see `info`)."""
        info = await self.info()
        return None if info is None else info.next

    async def info(self) -> AlarmInfo | None:
        """How it stands; None if it is not set."""
        store = await self._room.open_store()
        found = await store.get_alarm(self.name)
        return None if found is None or found.queue != self._room.queue else show(found)

    async def cancel(self) -> bool:
        """Whether it was set. A run that has begun goes on, and is not tried again."""
        store = await self._room.open_store()
        found = await store.get_alarm(self.name)
        if found is not None and found.queue != self._room.queue:
            raise AlarmTakenError(self.name, found.queue)
        return await store.cancel_alarm(self.name)

    async def rearm(self, when: datetime | Duration = 0) -> datetime:
        """Set a parked alarm again, with all its retries. `AlarmNotFoundError`; `ConflictError` if it is not parked."""
        store = await self._room.open_store()
        async with acting(store, "alarm.rearm"):
            return _moment((await rearm(store, self._room.ids, self.name, when)).due_at)

    def __repr__(self) -> str:
        return f"<Alarm {self.name!r}>"


class Alarms:
    """The alarms of an app; called with a name, it gives the one of that name."""

    def __init__(
        self,
        app: str,
        store: Callable[[], Store],
        ids: IdSource,
        ensure_open: Callable[[], Awaitable[None]],
        chance: random.Random,
    ) -> None:
        self.queue = f"{app}-alarms"
        self.ids = ids
        self._app = app
        self._store = store
        self._ensure_open = ensure_open
        self._chance = chance
        self._functions: dict[str, Callable[[AlarmRun], Any]] = {}
        self._handler: Handler | None = None

    def __call__(self, name: str) -> Alarm:
        """The alarm of this name. `InvalidSettingError` for what is no name."""
        check_alarm_name(name)
        return Alarm(self, name)

    def handler(self, pattern: str = "*") -> Callable[[F], F]:
        """Declare the function that alarms of this name ring; `*` in it stands for any signs. It takes an `AlarmRun`.
        A name that is declared whole comes first, then patterns in the order of their declaration."""

        def declare(function: F) -> F:
            if pattern in self._functions:
                hint = "one function for each pattern: call the other from it"
                raise InvalidSettingError("alarm_handler", pattern, "is declared twice in this app", hint=hint)
            try:
                inspect.signature(function).bind(None)
            except TypeError as error:
                problem = f"its function cannot be given its `AlarmRun`: {error}"
                hint = "as in `async def ring(alarm: AlarmRun) -> None`"
                raise InvalidSettingError("alarm_handler", pattern, problem, hint=hint) from None
            self._functions[pattern] = function
            return function

        return declare

    def handlers(self) -> list[Handler]:
        """The consumer of the alarms' queue, if any function is declared."""
        if not self._functions:
            return []
        if self._handler is None:
            settings = ConsumerSettings(
                script=self._app,
                max_batch_size=1,
                max_batch_timeout_ms=0,
                max_retries=RETRIES,
                retry_delay=BACKOFF,
                dead_letter_queue=f"{self.queue}-dlq",
                key_concurrency=1,
            )
            self._handler = read_handler(self.queue, _AlarmHandler(self, self._chance), settings)
        return [self._handler]

    async def open_store(self) -> Store:
        """The one in which the alarms lie."""
        await self._ensure_open()
        return self._store().at(self.queue)

    def check_handled(self, name: str) -> None:
        """`InvalidSettingError` for a name that no function takes; an app that declares none may be a producer."""
        if self._functions and self.function_of(name) is None:
            raise InvalidSettingError("alarm", name, "no handler takes this name", hint=_DECLARE.format(name))

    def function_of(self, name: str) -> Callable[[AlarmRun], Any] | None:
        """What this alarm rings."""
        whole = self._functions.get(name)
        if whole is not None:
            return whole
        return next((each for pattern, each in self._functions.items() if fnmatchcase(name, pattern)), None)


class _AlarmHandler:
    """Handles the alarms' messages: those of the present generation call their function."""

    def __init__(self, room: Alarms, chance: random.Random) -> None:
        self._room = room
        self._chance = chance

    async def __call__(self, message: Message[Ring]) -> None:
        store = await self._room.open_store()  # in a child, nobody else has opened it
        name, generation = message.body.alarm, MessageId(bytes.fromhex(message.id))
        try:
            alarm = await store.start_alarm(name, generation)
        except StoreError as error:  # nothing has run yet, so this is no attempt
            raise RateLimited(STORE_RETRY_S, reason=str(error)) from error
        if alarm is None:  # replaced or cancelled
            return
        run = AlarmRun(name=name, due=_moment(alarm.due_at), attempt=message.attempts)
        try:
            await self._call(run)
        except RateLimited:
            raise
        except Exception as error:
            if not await _finish(store, name, generation, f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]):
                return  # set anew or cancelled meanwhile: that is what counts
            if not isinstance(error, (Retry, Reject)):
                message.retry(self._delay_s(message.attempts))
            raise
        await _finish(store, name, generation, None)

    async def _call(self, run: AlarmRun) -> None:
        function = self._room.function_of(run.name)
        if function is None:
            raise NotFoundError(f"no handler takes alarm `{run.name}`", hint=_DECLARE.format(run.name))
        if inspect.iscoroutinefunction(function):
            returned = await function(run)
        else:
            returned = await asyncio.to_thread(function, run)
            if inspect.isawaitable(returned):  # a callable object whose call is async
                returned = await returned
        if isinstance(returned, (Retry, Reject, RateLimited)):
            raise returned

    def _delay_s(self, attempt: int) -> float:
        return BACKOFF.delay_ms(attempt, 0) * (1 + EXTRA * self._chance.random()) / 1000


async def rearm(store: Store, ids: IdSource, name: str, when: datetime | Duration = 0) -> records.Alarm:
    """Set a parked alarm again. `AlarmNotFoundError`; `ConflictError` if it is not parked."""
    found = await store.get_alarm(name)
    if found is None:
        raise AlarmNotFoundError(name)
    if found.state is not AlarmState.PARKED:
        raise ConflictError(f"alarm `{name}` is not parked: it is {found.state}", hint="set it again in your code")
    due_at = read_due(when, store.clock.now_ms())
    return await store.set_alarm(name, due_at, make_ring(ids, found.queue, name), was=found.message_id)


async def set_by_hand(
    store: Store, ids: IdSource, name: str, when: datetime | Duration, *, app: str | None = None
) -> records.Alarm:
    """Set an alarm of an app from outside of it; one that is there already is set anew, and says itself whose it is.
    `AlarmNotFoundError` without `app` for one that is not there, `AlarmTakenError`, `InvalidDurationError`,
    `InvalidSettingError` if that app handles no alarms."""
    check_alarm_name(name)
    queue = None if app is None else f"{app}-alarms"
    if queue is None:
        found = await store.get_alarm(name)
        if found is None:
            raise AlarmNotFoundError(name)
        queue = found.queue
    due_at = read_due(when, store.clock.now_ms())
    try:
        return await store.set_alarm(name, due_at, make_ring(ids, queue, name))
    except QueueNotFoundError as error:
        problem = f"no app `{app}` handles alarms here"
        raise InvalidSettingError("alarm", name, problem, hint=_DECLARE.format(name)) from error


def check_alarm_name(name: object) -> None:
    """`InvalidSettingError` for what is no name."""
    if not isinstance(name, str) or not 1 <= len(name) <= KEY_CHARS_MAX:
        raise InvalidSettingError("alarm", name, f"a name is text of 1 to {KEY_CHARS_MAX} characters")
    if "\0" in name or any("\ud800" <= sign <= "\udfff" for sign in name):
        raise InvalidSettingError("alarm", name, "holds a NUL or half of a surrogate pair")


def make_ring(ids: IdSource, queue: str, name: str) -> Draft:
    """The message that rings an alarm; the name is its key, so that one run of it ends before the next begins."""
    return Draft(id=ids.new(), queue=queue, body=msgspec.json.encode(Ring(name)), key=name)


def read_due(when: datetime | Duration, now_ms: int) -> int:
    """The moment in milliseconds. `InvalidDurationError`."""
    if not isinstance(when, datetime):
        return now_ms + read_duration_ms(when, name="when", most_ms=AHEAD_MS_MAX)
    if when.tzinfo is None:
        raise InvalidDurationError("when", when, "has no time zone")
    return round(when.timestamp() * 1000)


def show(alarm: records.Alarm) -> AlarmInfo:
    """As people are told."""
    return AlarmInfo(
        name=alarm.name,
        state=alarm.state,
        due=_moment(alarm.due_at),
        next=None if alarm.next_at is None else _moment(alarm.next_at),
        failed_at=None if alarm.failed_at is None else _moment(alarm.failed_at),
        error=alarm.error,
    )


async def _finish(store: Store, name: str, generation: MessageId, error: str | None) -> bool:
    """Until it is written: a run that went well must not be made again for want of a row."""
    while True:
        try:
            return await store.finish_alarm(name, generation, error=error)
        except StoreError:
            await store.clock.sleep(STORE_RETRY_S)


def _moment(value_ms: int) -> datetime:
    return datetime.fromtimestamp(value_ms / 1000, UTC)


_DECLARE: Final = "declare it with `@app.alarm_handler({!r})`, and start a worker of the app once"
