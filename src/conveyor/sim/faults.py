"""One process's way to the store, along which anything may go wrong: before the commit, after it, or for good.

Every transaction that took place is told to the judge, whether or not its caller ever hears of it.
"""

from __future__ import annotations

import contextvars
import functools
import operator
from collections.abc import Callable, Coroutine, Mapping, Sequence
from enum import Enum
from random import Random
from typing import Any, Final, Protocol, cast

from conveyor.model.clock import Clock
from conveyor.model.errors import ConveyorError, OutcomeUnknownError, StoreBusyError, StoreClosedError, StoreError
from conveyor.model.message import Peeked
from conveyor.sim.loop import Life, SimProcess
from conveyor.store.groups import GroupStore
from conveyor.store.notices import NoticeStore
from conveyor.store.protocol import Store, Wake
from conveyor.store.reports import ReportStore
from conveyor.store.retaining import RetentionStore
from conveyor.store.steps import StepStore
from conveyor.store.tracking import JobStore

_READS: Final = frozenset({
    "get_queue", "list_queues", "peek", "metrics", "list_owners", "list_schedules",
    "jobs.find", "jobs.look", "jobs.attempts", "jobs.errors", "jobs.obstacles",
})  # fmt: skip


class Fate(Enum):
    """What becomes of a transaction."""

    FINE = "fine"
    SLOW = "slow"
    REFUSED = "refused"
    BUSY = "busy"
    UNKNOWN = "unknown"
    """Committed, and the answer is lost."""
    ABSENT = "absent"
    """Not committed, and nobody can tell."""
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"


class Witness(Protocol):
    """Who is told of every transaction."""

    def saw(
        self, process: SimProcess, verb: str, arguments: tuple[Any, ...], parts: dict[str, Any], answer: object
    ) -> None:
        """`answer` is what the store said, or the domain error that it raised."""
        ...

    def answered(self, verb: str, arguments: tuple[Any, ...], answer: Any) -> None:
        """The caller has this answer."""
        ...

    def found(self, places: Mapping[str, Sequence[Peeked]]) -> None:
        """Where everything lies: messages expire unseen."""
        ...

    @property
    def queues(self) -> Sequence[str]: ...


class Weather:
    """What the store is like just now, for all processes."""

    def __init__(self, chance: Random, rate: float, *, crashes: bool, deaf: float) -> None:
        self.chance = chance
        self.rate = rate
        self.crashes = crashes
        self.deaf = deaf
        """How many of the wakes are lost."""
        self.is_down = False
        self.is_calm = False
        """The faults are over."""

    def clear_up(self) -> None:
        """From now on nothing goes wrong, but wakes may stay lost: nothing may depend on them."""
        self.rate, self.crashes, self.is_down, self.is_calm = 0.0, False, False, True

    def draw(self, verb: str) -> Fate:
        if self.is_down:
            return Fate.REFUSED
        if self.chance.random() >= self.rate:
            return Fate.FINE
        fates = [Fate.SLOW, Fate.REFUSED, Fate.BUSY, Fate.UNKNOWN, Fate.ABSENT]
        if self.crashes and self.chance.random() < 0.1:
            fates = [Fate.CRASH_BEFORE, Fate.CRASH_AFTER]
        fate = self.chance.choice(fates)
        return Fate.SLOW if verb in _READS and fate in (Fate.UNKNOWN, Fate.ABSENT) else fate

    def delay_s(self, fate: Fate) -> float:
        if fate is Fate.SLOW:
            return self.chance.choice((0.05, 0.5, 3.0))
        return self.chance.choice((0.0, 0.000_2, 0.001, 0.004))


class Switchboard:
    """Carries wakes from the store to the processes that listen, late or never."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._listeners: dict[object, tuple[SimProcess, Wake]] = {}

    def wake(self, names: frozenset[str]) -> None:
        for name in sorted(names):
            for process, wake in self._listeners.values():
                if self._weather.chance.random() >= self._weather.deaf:
                    process.call_soon(wake, frozenset({name}))

    def listen(self, process: SimProcess, wake: Wake) -> Callable[[], None]:
        ticket = object()
        self._listeners[ticket] = process, wake
        return lambda: self._listeners.pop(ticket, None) and None


class FaultyStore:
    """A `Store` as one process sees it."""

    def __init__(
        self, inner: Store, process: SimProcess, weather: Weather, switchboard: Switchboard, witness: Witness,
        outside: contextvars.Context,
    ) -> None:  # fmt: skip
        self._inner = inner
        self._process = process
        self._weather = weather
        self._switchboard = switchboard
        self._witness = witness
        self._outside = outside
        self.clock: Clock = inner.clock
        self.host = "sim"

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    @property
    def retention(self) -> RetentionStore:
        return self._inner.retention

    @property
    def jobs(self) -> JobStore:
        return cast("JobStore", _Room(self, "jobs"))

    @property
    def steps(self) -> StepStore:
        """As `jobs`."""
        return self._inner.steps

    @property
    def reports(self) -> ReportStore:
        return self._inner.reports

    @property
    def notices(self) -> NoticeStore:
        return self._inner.notices

    @property
    def groups(self) -> GroupStore:
        """As the jobs."""
        return self._inner.groups

    def at(self, queue: str) -> Store:
        """All queues live here."""
        return cast("Store", self)

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        return self._switchboard.listen(self._process, wake)

    def __getattr__(self, verb: str) -> Any:
        return functools.partial(self._transact, verb)

    async def _transact(self, verb: str, *arguments: Any, **parts: Any) -> Any:
        if self._process.is_ghost:
            await self.clock.sleep(1)
            raise StoreClosedError
        fate = self._weather.draw(verb)
        await self.clock.sleep(self._weather.delay_s(fate))
        if fate in (Fate.REFUSED, Fate.BUSY, Fate.ABSENT, Fate.CRASH_BEFORE):
            await self._refuse(fate)
        answer = self._commit(verb, arguments, parts)
        if fate is Fate.CRASH_AFTER:
            await self._crash()
        await self.clock.sleep(self._weather.delay_s(Fate.FINE))
        if isinstance(answer, ConveyorError):
            raise answer
        if fate is Fate.UNKNOWN:
            raise OutcomeUnknownError("the connection broke during COMMIT")
        self._witness.answered(verb, arguments, answer)
        return answer

    def _commit(self, verb: str, arguments: tuple[Any, ...], parts: dict[str, Any]) -> object:
        """One transaction, in no time; in nobody's name, so that its wakes outlive its caller."""
        answer: object
        if verb in ("purge", "redrive"):
            self._witness.found({name: self._peek(name) for name in self._witness.queues})
        try:
            answer = self._outside.run(at_once, operator.attrgetter(verb)(self._inner)(*arguments, **parts))
        except ConveyorError as error:
            answer = error
        self._witness.saw(self._process, verb, arguments, parts, answer)
        return answer

    def _peek(self, queue: str) -> list[Peeked]:
        found: list[Peeked] = at_once(self._inner.peek(queue, limit=100_000))
        return found

    async def _refuse(self, fate: Fate) -> None:
        self._process.troubled_at = self.clock.monotonic()
        match fate:
            case Fate.BUSY:
                raise StoreBusyError("sim", 30)
            case Fate.ABSENT:
                raise OutcomeUnknownError("the connection broke before COMMIT")
            case Fate.CRASH_BEFORE:
                await self._crash()
            case _:
                raise StoreError("the store refuses")

    async def _crash(self) -> None:
        self._process.kill()
        while self._process.life is Life.DEAD:  # no step of a dead process is taken: this never goes on
            await self.clock.sleep(3_600)


class _Room:
    """One of the store's rooms, to which the same faults come."""

    def __init__(self, store: FaultyStore, name: str) -> None:
        self._store = store
        self._name = name

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, f"{self._name}.{verb}")


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """The answer of a coroutine that does not wait."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise AssertionError("the store waited inside a transaction")
