"""Bugs on purpose, each a line or two of the real code turned wrong; the simulation must see every one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from conveyor.model.errors import StoreClosedError, StoreError
from conveyor.model.verdict import Action
from conveyor.queue import consumer, dispatch, settle, worker
from conveyor.queue.handler import RunIn
from conveyor.sim.plan import Backend, Feature, Plan
from conveyor.store import gates
from conveyor.store.memory import belt, floor, owners, rows, schedules
from conveyor.store.memory import jobs as memory_jobs
from conveyor.store.records import Ending
from conveyor.store.sqlite import catalog, leases
from conveyor.store.sqlite import claim as sqlite_claim
from conveyor.store.sqlite import jobs as sqlite_jobs
from conveyor.store.sqlite import owners as sqlite_owners
from conveyor.store.sqlite import reconcile as sqlite_reconcile
from conveyor.supervisor import supervisor


@dataclass(frozen=True)
class Mutant:
    """Where, what instead, and the features without which nothing can show."""

    name: str
    place: Any
    attribute: str
    make: Callable[[Any], Any]
    needs: frozenset[Feature] = frozenset()

    def may_show(self, plan: Plan) -> bool:
        """Whether a world has what it is about."""
        module = getattr(self.place, "__module__", self.place.__name__)
        stores = {backend for backend in Backend if f".{backend}." in module}
        return self.needs <= plan.features and (not stores or plan.backend in stores)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        former = getattr(self.place, self.attribute)
        setattr(self.place, self.attribute, self.make(former))
        try:
            yield
        finally:
            setattr(self.place, self.attribute, former)


def _needs(*features: Feature) -> frozenset[Feature]:
    return frozenset(features)


# Stores


def _guard_off_by_one(_former: Any) -> Any:
    def is_spent(self: Any, message: Any) -> bool:
        retries = message.max_retries
        return bool(message.attempts > 1 + (self._consumer(message.queue).max_retries if retries is None else retries))

    return is_spent


def _release_counts(_former: Any) -> Any:
    def release(self: Any, message: Any) -> None:
        message.end_lease()
        self._wake(message.queue)

    return release


def _evidence_ignored(former: Any) -> Any:
    def judge(self: Any, message: Any, evidence: Any, running: int, reaped: Any) -> None:
        lost = msgspec.structs.replace(evidence, ending=Ending.LOST)
        former(self, message, lost if evidence.ending is Ending.CRASHED else evidence, running, reaped)

    return judge


def _all_are_guilty(former: Any) -> Any:
    def judge(self: Any, message: Any, evidence: Any, _running: int, reaped: Any) -> None:
        former(self, message, evidence, 1, reaped)

    return judge


def _head_check_dropped(former: Any) -> Any:
    def walk(self: Any, queue: Any, due: list[Any], limit: int) -> Any:
        settings = queue.consumer
        if settings is not None and settings.ordered:
            queue.consumer = msgspec.structs.replace(settings, ordered=False, key_concurrency=1)
        try:
            return former(self, queue, due, limit)
        finally:
            queue.consumer = settings

    return walk


def _no_slot_counted(former: Any) -> Any:
    def free_slots(self: Any, queue: Any, request: Any) -> Any:
        slots = former(self, queue, request)
        return None if slots is None else slots + 1

    return free_slots


def _tick_fired_again(former: Any) -> Any:
    async def fire(self: Any, firing: Any) -> Any:
        self._tables.runs.pop((firing.schedule, firing.tick), None)
        return await former(self, firing)

    return fire


def _throttle_ignored(former: Any) -> Any:
    async def claim(self: Any, request: Any) -> Any:
        self._queue(request.queue).throttled_until = 0
        return await former(self, request)

    return claim


def _pause_ignored(former: Any) -> Any:
    async def claim(self: Any, request: Any) -> Any:
        queue = self._queue(request.queue)
        was, queue.paused = queue.paused, False
        try:
            return await former(self, request)
        finally:
            queue.paused = was

    return claim


def _retry_delay_ignored(former: Any) -> Any:
    def fail(self: Any, message: Any, reason: str, error: Any, *, ready_at: int) -> Any:
        return former(self, message, reason, error, ready_at=self._now())

    return fail


def _attempts_kept(former: Any) -> Any:
    def start_anew(self: Any, queue: str, now: int, dead: Any) -> None:
        releases = self.releases
        former(self, queue, now, dead)
        self.releases = releases

    return start_anew


def _dead_letter_deleted(_former: Any) -> Any:
    def kill(self: Any, message: Any, _reason: str, _error: Any) -> None:
        self._remove(message)

    return kill


# The SQLite store


def _spent_off_by_one(_former: Any) -> Any:
    def is_spent(tx: Any, row: Any, ended: Any) -> bool:
        own = tx.row("read_place", ended.seq)[4]
        return bool(ended.attempts > 1 + (row.max_retries if own is None else own))

    return is_spent


def _release_not_noted(former: Any) -> Any:
    def put_back(tx: Any, row: Any, ended: Any, **parts: Any) -> None:
        former(tx, row, ended, **{**parts, "releases": 0})

    return put_back


def _redriven_beside_the_first(former: Any) -> Any:
    def admits(self: Any, candidate: Any) -> bool:
        key = self.consumer.gate_key(candidate.key)
        if not key or not self.consumer.ordered:
            return bool(former(self, candidate))
        return self.states[key].first in (None, candidate.seq)

    return admits


def _orphans_kept(_former: Any) -> Any:
    def reconcile(tx: Any, owner: Any, queue: Any, held: Any, calls: Any) -> int:
        sqlite_reconcile._state_slots(tx, tx.catalog.get(tx, queue), owner, calls)
        return 0

    return reconcile


# Workers


def _slots_given_back_again(_former: Any) -> Any:
    async def write(self: Any, ended: Any, ended_calls: Any) -> None:
        while True:
            try:
                settled = await self._store.settle(self._owner, [e.settlement for e in ended], ended=ended_calls)
                break
            except StoreClosedError:
                return
            except StoreError:
                await self._clock.sleep(0.1)
        self._note_given(ended_calls)
        self._in_flight -= len(ended)
        self._clear(ended, settled)

    return write


def _doubt_forgotten(_former: Any) -> Any:
    async def reconcile(self: Any) -> None:
        self._is_in_doubt = False
        self._reconcile_at = self._clock.monotonic() + 60

    return reconcile


def _nothing_kept_back(_former: Any) -> Any:
    async def keep_back(self: Any, queue: str) -> None:
        self._ended_calls.pop(queue, None)

    return keep_back


def _settlement_dropped(_former: Any) -> Any:
    async def write(self: Any, ended: Any, ended_calls: Any) -> None:
        with contextlib.suppress(Exception):
            settled = await self._store.settle(self._owner, [each.settlement for each in ended], ended=ended_calls)
            self._clear(ended, settled)
        self._in_flight -= len(ended)

    return write


def _settled_twice(former: Any) -> Any:
    async def write(self: Any, ended: Any, ended_calls: Any) -> None:
        await former(self, ended, ended_calls)
        await self._store.settle(self._owner, [each.settlement for each in ended])

    return write


def _begins_unseen(former: Any) -> Any:
    def end(self: Any, call: Any, settlements: Any) -> None:
        for slot in call.slots:
            self._board.end(slot)
        call.slots = [0] * len(call.slots)
        former(self, call, settlements)

    return end


def _suspect_beside_others(former: Any) -> Any:
    async def run_alone(self: Any, consumer: Any, leases: Any) -> Any:
        isolation, self._isolation = self._isolation, None
        if consumer.handler.run_in is RunIn.PROCESS:
            self._isolation = isolation
        try:
            return await former(self, consumer, leases)
        finally:
            self._isolation = isolation

    return run_alone


def _shutdown_is_a_failure(_former: Any) -> Any:
    return lambda self, call, error: error


def _release_is_a_retry(former: Any) -> Any:
    def release(lease: Any, delay_ms: int | None = None) -> Any:
        return msgspec.structs.replace(former(lease, delay_ms), action=Action.RETRY)

    return release


async def _nothing_cancelled(self: Any, id: Any) -> Any:
    return self._find_job(id)


async def _never(self: Any) -> None:
    while True:
        await self._store.clock.sleep(3_600)


MUTANTS = [
    Mutant("retry guard off by one", floor.Floor, "_is_spent", _guard_off_by_one),
    Mutant("fence ignored", belt.Belt, "_may_settle", lambda _: lambda self, message, owner, said: message.leased, _needs(Feature.STOPS)),
    Mutant("reaped owner may claim", belt.Belt, "_may_own", lambda _: lambda self, owner: True, _needs(Feature.STOPS)),
    Mutant("released counted as attempt", floor.Floor, "_release", _release_counts),
    Mutant("reap ignores evidence", owners.Owners, "_judge", _evidence_ignored, _needs(Feature.KILLS)),
    Mutant("neighbours of a crash are charged", owners.Owners, "_judge", _all_are_guilty, _needs(Feature.KILLS)),
    Mutant("crash budget of 4", floor, "CRASH_BUDGET", lambda _: 4, _needs(Feature.POISON)),
    Mutant("ordered key's head check dropped", belt.Belt, "_walk", _head_check_dropped, _needs(Feature.KEYS)),
    Mutant("dedupe ignored", belt.Belt, "_live_dedupe", lambda _: lambda self, draft: None, _needs(Feature.DEDUPE)),
    Mutant("one slot too many", belt.Belt, "_free_slots", _no_slot_counted, _needs(Feature.LIMITS)),
    Mutant("cron primary key ignored", schedules.Schedules, "fire", _tick_fired_again, _needs(Feature.CRON)),
    Mutant("throttle ignored", belt.Belt, "claim", _throttle_ignored, _needs(Feature.RATES)),
    Mutant("pause ignored", belt.Belt, "claim", _pause_ignored, _needs(Feature.PAUSES)),
    Mutant("retry delay ignored", floor.Floor, "_fail", _retry_delay_ignored),
    Mutant("delay ignored", rows.Message, "is_due", lambda _: lambda self, due: not self.leased, _needs(Feature.DELAYS)),
    Mutant("priority ignored", rows.Message, "place", lambda _: lambda self: (0, self.ready_at, self.seq), _needs(Feature.PRIORITIES)),
    Mutant("redrive keeps the attempts", rows.Message, "start_anew", _attempts_kept, _needs(Feature.REDRIVES)),
    Mutant("dead letter deleted", floor.Floor, "_kill", _dead_letter_deleted),
    Mutant("SQLite: retry guard off by one", leases, "retries_are_spent", _spent_off_by_one),
    Mutant("SQLite: releases not counted", leases, "put_back", _release_not_noted),
    Mutant("keys not gated", gates.Gate, "admits", lambda _: lambda self, candidate: True, _needs(Feature.KEYS)),
    Mutant("SQLite: catalog never refreshed", catalog.Catalog, "refresh", lambda _: lambda self, tx: None, _needs(Feature.PAUSES)),
    Mutant("SQLite: a dead owner keeps its slots", sqlite_owners, "_free_slots", lambda _: lambda tx, owner: None, _needs(Feature.LIMITS, Feature.KILLS)),
    Mutant("SQLite: nobody is blamed for a crash", leases, "crash", lambda former: leases.lose, _needs(Feature.POISON)),
    Mutant("SQLite: expired messages delivered", sqlite_claim, "_is_past", lambda _: lambda tx, row, found: False, _needs(Feature.EXPIRY)),
    Mutant("poll off", consumer.Consumer, "poll", lambda _: lambda self: None, _needs(Feature.DEAF)),
    Mutant("settlement dropped on store error", settle.Settler, "_write", _settlement_dropped, _needs(Feature.FAULTS)),
    Mutant("a redriven message beside the first of its key", gates.Gate, "admits", _redriven_beside_the_first, _needs(Feature.KEYS, Feature.REDRIVES)),
    Mutant("SQLite: orphans are kept", sqlite_reconcile, "reconcile", _orphans_kept, _needs(Feature.FAULTS)),
    Mutant("slots given back twice", settle.Settler, "_write", _slots_given_back_again, _needs(Feature.FAULTS, Feature.LIMITS)),
    Mutant("a lost claim is forgotten", consumer.Consumer, "_reconcile", _doubt_forgotten, _needs(Feature.FAULTS)),
    Mutant("what waits is not stated", consumer.Consumer, "_held", lambda _: lambda self: self._desk.leases_of(self.queue), _needs(Feature.FAULTS)),
    Mutant("what runs is not stated", worker.Worker, "leases_of", lambda _: lambda self, queue: iter(()), _needs(Feature.FAULTS)),
    Mutant("what is being settled is not stated", settle.Settler, "leases_of", lambda _: lambda self, queue: iter(()), _needs(Feature.FAULTS)),
    Mutant("slots stated while some are given back", settle.Settler, "keep_back", _nothing_kept_back, _needs(Feature.FAULTS, Feature.LIMITS)),
    Mutant("duplicate settle", settle.Settler, "_write", _settled_twice),
    Mutant("slot never freed", settle.Settler, "give_back", lambda _: lambda self, queue, calls: None, _needs(Feature.LIMITS)),
    Mutant("off the board before it is durable", worker.Worker, "_end", _begins_unseen, _needs(Feature.KILLS)),
    Mutant("a cancelled job is tried again", floor.Floor, "_is_cancelled", lambda _: lambda self, message: False, _needs(Feature.JOBS)),
    Mutant("SQLite: a cancelled job is tried again", sqlite_jobs, "is_cancelled", lambda _: lambda tx, row, seq: False, _needs(Feature.JOBS)),
    Mutant("what became of a job is forgotten", floor.Floor, "_put_job", lambda _: lambda self, record: None, _needs(Feature.JOBS)),
    Mutant("a replaced job stays", memory_jobs.Jobs, "cancel", lambda _: _nothing_cancelled, _needs(Feature.JOBS)),
    Mutant("suspects not isolated", worker.Worker, "run_alone", _suspect_beside_others, _needs(Feature.KILLS)),
    Mutant("shutdown counted as a failure", dispatch.Dispatcher, "_cause", _shutdown_is_a_failure, _needs(Feature.ROLLS)),
    Mutant("unstarted counted as a failure", consumer, "release", _release_is_a_retry, _needs(Feature.PAUSES)),
    Mutant("lease not renewed", supervisor.Supervisor, "_tend_leases", lambda _: _never),
    Mutant("nobody sweeps", supervisor.Supervisor, "_tend_store", lambda _: _never, _needs(Feature.KILLS, Feature.ROLLS)),
    Mutant("timeouts not looked after", worker.Worker, "_look_at_calls", lambda _: lambda self, now: None, _needs(Feature.TIMEOUTS)),
]
