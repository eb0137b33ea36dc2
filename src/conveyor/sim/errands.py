"""Jobs in the invented world: the real room, runner and beats; functions that fail in every way; clients that enqueue
under unique keys, replace, and cancel what they know."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any, Final, TypeVar

from conveyor.jobs.context import JobContext
from conveyor.jobs.function import JobFunction
from conveyor.jobs.job import Job
from conveyor.jobs.room import Jobs
from conveyor.model.errors import ConveyorError, OutcomeUnknownError
from conveyor.model.ids import IdSource
from conveyor.model.job import JobState
from conveyor.model.settings import QueueSettings
from conveyor.model.verdict import Backoff, Snooze
from conveyor.queue.handler import Handler
from conveyor.queue.producer import Queue
from conveyor.queue.sealing import NO_KEYS
from conveyor.sim.cards import Card
from conveyor.sim.faults import Weather
from conveyor.sim.judge import Judge
from conveyor.sim.loop import SimProcess
from conveyor.sim.plan import SCRIPT
from conveyor.store.jobs import JobFound
from conveyor.store.protocol import Store

T = TypeVar("T")

ERRANDS: Final = "errands"
MOODS: Final = ("ok", "ok", "ok", "ok", "long", "fail", "fail", "never", "snooze", "hang")


class Home:
    """What the room of jobs needs of an app."""

    def __init__(self, store: Store, ids: IdSource) -> None:
        self.name = SCRIPT
        self.store = store
        self.sealer = NO_KEYS
        self._ids = ids

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        return asyncio.get_running_loop()

    async def ensure_open(self) -> None: ...

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError("there are no threads in an invented world")

    def queue(self, name: str) -> Queue:
        return Queue(self.store, self._ids, self._settings, name)

    async def _settings(self, queue: str) -> QueueSettings:
        return (await self.store.get_queue(queue)).settings


class Office:
    """The jobs of one process."""

    def __init__(
        self, store: Store, ids: IdSource, process: SimProcess, judge: Judge, weather: Weather, chance: Random,
        owner: int,
    ) -> None:  # fmt: skip
        self._process = process
        self._judge = judge
        self._weather = weather
        self._chance = chance
        self._clock = store.clock
        self._owner = owner
        self.room = Jobs(Home(store, ids))
        declare = self.room.job(
            queue=ERRANDS, name="errand", max_retries=2, backoff=Backoff(base_ms=300), errors={KeyError: None},
            timeout=4, result_ttl="1h",
        )  # fmt: skip
        self.job: JobFunction[dict[str, Any], str] = declare(self._run)

    def handlers(self) -> Sequence[Handler]:
        return self.room.handlers()

    async def _run(self, errand: dict[str, Any], context: JobContext) -> str:
        lease = context._message._lease
        self._judge.call_began(self._owner, [lease], self._process.name, in_child=lease.crash_suspect)
        word = "cut"
        try:
            await self._clock.sleep(self._chance.choice((0, 0.02, 0.3)))
            word = errand["mood"]
            return await self._behave(word)
        finally:
            if not self._process.is_ghost:
                self._judge.call_ended(self._owner, [lease], self._process.name, word)

    async def _behave(self, mood: str) -> str:
        is_calm = self._weather.is_calm
        if mood == "fail" and self._chance.random() < 0.6:
            raise ValueError(mood)
        if mood == "never":
            raise KeyError(mood)
        if mood == "snooze" and self._chance.random() < 0.5:
            raise Snooze(0.4)
        if mood == "long" and not is_calm:
            await self._clock.sleep(3)
        if mood == "hang" and not is_calm:
            await self._clock.sleep(3_600)
        return mood


class Customer:
    """A process that enqueues, replaces and cancels, and knows what it was told."""

    def __init__(self, office: Office, store: Store, judge: Judge, chance: Random, name: str) -> None:
        self._office = office
        self._clock = store.clock
        self._judge = judge
        self._chance = chance
        self._name = name
        self._known: list[Job[str]] = []

    async def live(self, count: int, life_s: float) -> None:
        for _ in range(count):
            await self._clock.sleep(self._chance.expovariate(count / life_s))
            try:
                await self._act()
            except ConveyorError as error:
                self._judge.note(self._name, f"errand {'?' if isinstance(error, OutcomeUnknownError) else '!'}")

    async def _act(self) -> None:
        chance = self._chance
        if self._known and chance.random() < 0.25:
            job = chance.choice(self._known[-5:])
            state = await job.cancel()
            self._judge.check(state is not JobState.QUEUED, f"{job!r} is queued after its cancel")
            return
        unique = chance.choice((None, None, "one", "two"))
        sender = self._office.job.options(
            unique=unique, delay=chance.choice((None, None, 0.5)),
            on_conflict="replace" if unique is not None and chance.random() < 0.5 else "existing",
        )  # fmt: skip
        self._known.append(await sender.enqueue({"mood": chance.choice(MOODS)}))


def judge_jobs(judge: Judge, found: Sequence[JobFound], cards: Sequence[Card], now: int) -> None:
    """At the end each job says of itself what became of its message."""
    states = {each.id: each.state(now) for each in found}
    for card in cards:
        state, name = states.get(card.id), judge.name(card)
        if card.end == "done":
            allowed = {JobState.SUCCEEDED} | ({JobState.CANCELLED} if card.wish else set())
        elif card.end == "cancelled":
            allowed = {JobState.CANCELLED}
        else:
            judge.check(card.origin == ERRANDS, f"jobs: {name} has come to no end")
            allowed = {JobState.FAILED, JobState.DEAD}
        judge.check(state in allowed, f"jobs: {name} ({card.end}) says {state}, not {sorted(allowed)}")
