"""Starts worker processes, renews their leases, and settles their affairs when they die.

It runs no user code, so nothing that a handler does can keep it from its heartbeat. When a worker dies it knows from
the board which handlers had begun, and hands that to the store as evidence (T5).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Coroutine, Sequence
from enum import Enum
from typing import Any, Final, TypeVar

import msgspec

from conveyor.model.errors import StoreAwayError, StoreError
from conveyor.model.events import Emit, WorkerDelayed, WorkerDied
from conveyor.queue.board import Board
from conveyor.queue.heartbeat import HEARTBEAT_S, SWEEP_S
from conveyor.queue.worker import GRACE_S, LAST_WORDS_S
from conveyor.store.protocol import Store
from conveyor.store.records import OWNER_LEASE_MS, Ending, Evidence, OwnerInfo, OwnerRow, Reaped, Swept
from conveyor.supervisor.process import CHILD_FAILED, ChildProcess, Exit
from conveyor.working import machine_of

T = TypeVar("T")

BOARD_SLOTS: Final = 8_192
QUICK_DEATHS_MAX: Final = 5
"""Deaths before a worker was ready, in a row: then the app itself is at fault, and we stop."""
RESTART_S_MAX: Final = 5.0
YOUNG_S: Final = 10.0
"""Who dies younger, though it had been ready, makes its successor wait a little longer than the last one did."""
ONE_SIGNAL_S: Final = 0.5
CLOSING_S: Final = 2.0
"""For a worker to close its store, after the last words of its handlers."""
STORE_RETRY_S: Final = 1.0
HISTORY_PAUSE_S: Final = 0.05
HISTORY_PAUSES: Final = 9.0
"""Times that a sweep of mere history took, before the next one: it has the store for a tenth of the time at most."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run."""

    app: str
    worker: Sequence[str]
    """The command of a worker, without its owner, board and control."""
    processes: int = 1
    web: Sequence[str] | None = None
    """The command of the HTTP server, if there is to be one."""
    grace_s: float = GRACE_S


class Stop(Enum):
    """How soon to end."""

    GRACEFULLY = "gracefully"
    AT_ONCE = "at once"


class Supervisor:
    """Runs a plan until it is told to stop. `run` returns the exit code."""

    def __init__(self, store: Store, plan: Plan, *, emit: Emit, chance: random.Random) -> None:
        self._store = store
        self._plan = plan
        self._emit = emit
        self._chance = chance
        self._machine = machine_of(store)
        self._workers: list[ChildProcess] = []
        self._web: ChildProcess | None = None
        self._changed = asyncio.Event()
        self._stop: Stop | None = None
        self._stop_wanted = asyncio.Event()
        self._is_proven = False
        """A worker has been ready, so the app can be loaded. Until then only one tries, and speaks once if it
        cannot."""
        self._quick_deaths = 0
        self._young_deaths = 0
        self._failed = False
        self._restart_at = 0.0
        self._stopped_at = 0.0
        self._orphans: set[int] = set()
        self._beat_at = store.clock.now_ms()
        self._sweep_from = 0

    async def run(self) -> int:
        """Start everything, tend it, and end it in good order."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._changed.set)
        tending = [asyncio.create_task(self._tend_leases()), asyncio.create_task(self._tend_store())]
        for task in tending:
            task.add_done_callback(self._cease)
        try:
            await self._tend_children()
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)
            for task in tending:
                task.remove_done_callback(self._cease)
                task.cancel()
            for task in tending:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        return 1 if self._failed else 0

    def stop(self) -> None:
        """Gracefully; the second time at once. Two signals in a blink are one: a terminal and `timeout` send them
        so."""
        now = self._store.clock.monotonic()
        if self._stop is None:
            self._stop, self._stopped_at = Stop.GRACEFULLY, now
            self._stop_wanted.set()
        elif now - self._stopped_at > ONE_SIGNAL_S:
            self._stop = Stop.AT_ONCE
        self._changed.set()

    def _cease(self, _task: asyncio.Task[None]) -> None:
        """Without a heartbeat there is no point in going on."""
        self._failed = True
        self._changed.set()

    async def _tend_children(self) -> None:
        while self._stop is None and not self._failed:
            await self._fill_up()
            await self._wait_for_change(self._pause())
            await self._look()
        await self._end_all()

    @property
    def _is_complete(self) -> bool:
        wanted = self._plan.processes if self._is_proven else 1
        has_web = self._plan.web is None or self._web is not None or not self._is_proven
        return len(self._workers) >= wanted and has_web

    def _pause(self) -> float | None:
        """None: nothing is due before a child changes."""
        return None if self._is_complete else max(0.01, self._restart_at - self._store.clock.monotonic())

    async def _wait_for_change(self, timeout_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        self._changed.clear()

    async def _fill_up(self) -> None:
        now = self._store.clock.monotonic()
        if now < self._restart_at:
            return
        try:
            while len(self._workers) < (self._plan.processes if self._is_proven else 1):
                self._workers.append(self._watch(await self._start_worker()))
        except StoreError as error:
            self._emit(WorkerDelayed(error=str(error), retry_s=STORE_RETRY_S))
            self._restart_at = now + STORE_RETRY_S
        if self._plan.web is not None and self._web is None and self._is_proven:
            self._web = self._watch(ChildProcess(self._plan.web, board=None, owner=0, started_at=now))

    async def _start_worker(self) -> ChildProcess:
        info = OwnerInfo(app=self._plan.app, host=self._machine, pid=0, supervisor_pid=os.getpid())
        owner = await self._ask(self._store.register_owner(info))
        command = [*self._plan.worker, "--owner", str(owner), "--grace", str(self._plan.grace_s)]
        board, now = Board.create(BOARD_SLOTS), self._store.clock.monotonic()
        return ChildProcess(command, board=board, owner=owner, started_at=now)

    def _watch(self, child: ChildProcess) -> ChildProcess:
        asyncio.get_running_loop().add_reader(child.fileno(), self._hear, child)
        return child

    def _hear(self, child: ChildProcess) -> None:
        child.hear()
        if child.is_silent:
            asyncio.get_running_loop().remove_reader(child.fileno())
        if child.is_ready:
            self._quick_deaths = 0
            self._is_proven = True
            self._changed.set()
        if child.stuck:
            child.kill()  # `_look` finds it dead, and knows the culprit

    async def _look(self) -> None:
        """Find those that have ended, and settle their affairs."""
        for worker in list(self._workers):
            ended = worker.look()
            if ended is not None:
                self._workers.remove(worker)
                await self._bury(worker, ended)
        if self._web is not None and (ended := self._web.look()) is not None:
            web, self._web = self._web, None
            if ended.stopped:
                web.cut()
            web.hear()
            self._forget(web)
            self._judge(web, ended)

    async def _bury(self, worker: ChildProcess, ended: Exit) -> None:
        if ended.stopped:
            worker.kill()
            worker.wait()
        worker.hear()
        evidence = _evidence(worker, ended)
        self._forget(worker)
        reaped = await self._reap(worker.owner, evidence)
        self._judge(worker, ended, running=len(evidence.started))
        if evidence.ending is not Ending.EXITED:
            self._emit(
                WorkerDied(
                    pid=worker.pid,
                    detail=evidence.detail,
                    running=len(evidence.started),
                    released=len(reaped.released),
                    suspects=len(reaped.suspects),
                    failed=len(reaped.failed),
                    dead=len(reaped.dead),
                )
            )

    async def _reap(self, owner: int, evidence: Evidence) -> Reaped:
        """Until the store takes it, or we are to stop: then the leases live on until the owner's lease ends."""
        while True:
            try:
                return await self._ask(self._store.reap_owner(owner, evidence))
            except StoreError as error:
                self._emit(WorkerDelayed(error=str(error), retry_s=STORE_RETRY_S))
            if self._stop is not None:
                return Reaped(released=[], suspects=[], failed=[], dead=[])
            await self._store.clock.sleep(STORE_RETRY_S)

    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        """The store's answer. `StoreAwayError` if there is none soon after we were told to stop."""
        asking, stopping = asyncio.ensure_future(question), asyncio.ensure_future(self._stop_wanted.wait())
        await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not asking.done():
            await asyncio.wait((asking,), timeout=CLOSING_S)
        if asking.cancel():
            raise StoreAwayError("the store", "it has not answered")
        return await asking

    def _judge(self, child: ChildProcess, ended: Exit, *, running: int = 0) -> None:
        """Whether to start another, and how soon: after the first death at once, then ever later.

        One that died with messages in hand is replaced at once, however often: their crash budget ends it.
        """
        now = self._store.clock.monotonic()
        if self._stop is not None:
            return
        if child.is_ready:
            is_young = now - child.started_at < YOUNG_S and not running
            self._young_deaths = self._young_deaths + 1 if is_young else 0
            rounds = (self._young_deaths - 1) // self._plan.processes  # all may die of one thing
            self._restart_at = now + (min(RESTART_S_MAX, 0.05 * 2**rounds) if rounds > 0 else 0)
            return
        self._quick_deaths += 1
        self._restart_at = now + min(RESTART_S_MAX, 0.1 * 2**self._quick_deaths)
        if ended.code == CHILD_FAILED or (not self._is_proven and self._quick_deaths >= QUICK_DEATHS_MAX):
            self._failed = True

    def _forget(self, child: ChildProcess) -> None:
        asyncio.get_running_loop().remove_reader(child.fileno())
        child.close()

    async def _tend_leases(self) -> None:
        """The heartbeat: one row per worker, however many messages it holds."""
        while True:
            await self._store.clock.sleep(HEARTBEAT_S)
            workers = list(self._workers)
            with contextlib.suppress(StoreError):  # the next beat tries again; a lease is three beats long
                lost = await self._store.renew_owners([worker.owner for worker in workers])
                self._count_beat(self._store.clock.now_ms())
                for worker in workers:
                    if worker.owner in lost:
                        worker.is_bereft = True
                        worker.kill()

    def _count_beat(self, now: int) -> None:
        if now - self._beat_at > OWNER_LEASE_MS:
            self._sweep_from = now + OWNER_LEASE_MS
        self._beat_at = now

    def _may_sweep(self) -> bool:
        """Not after a store that refused for long, or a machine that slept: all leases are over then, and their living
        owners must come to renew them first."""
        now = self._store.clock.now_ms()
        return now >= self._sweep_from and now - self._beat_at <= OWNER_LEASE_MS

    async def _tend_store(self) -> None:
        """What time makes due; jittered, since every supervisor does it."""
        while True:
            await self._store.clock.sleep(SWEEP_S * (0.75 + self._chance.random() / 2))
            if not self._may_sweep():
                continue
            with contextlib.suppress(StoreError):
                swept = await self._sweep()
                await self._reap_orphans()
                while swept.total >= 1_000 or swept.leaves_history:
                    swept = await self._sweep()

    async def _sweep(self) -> Swept:
        """Where only history is left, there is a pause after it, so that it never has the store for more than a part of
        the time."""
        began = self._store.clock.monotonic()
        swept = await self._store.sweep()
        if swept.leaves_history:
            took_s = self._store.clock.monotonic() - began
            await self._store.clock.sleep(min(SWEEP_S, max(HISTORY_PAUSE_S, HISTORY_PAUSES * took_s)))
        return swept

    async def _reap_orphans(self) -> None:
        """Workers of this machine whose supervisor is dead end at once; seen so a second time, they have."""
        mine = {worker.owner for worker in self._workers}
        orphans = {
            row.owner
            for row in await self._store.list_owners()
            if row.owner not in mine and row.info.host == self._machine and not _has_keeper(row)
        }
        for owner in orphans & self._orphans:
            await self._store.reap_owner(owner, Evidence(ending=Ending.LOST, detail="its supervisor died"))
        self._orphans = orphans

    async def _end_all(self) -> None:
        children = [*self._workers, *([self._web] if self._web is not None else [])]
        for child in children:
            child.terminate()
        deadline = self._store.clock.monotonic() + self._plan.grace_s + 2 * LAST_WORDS_S + CLOSING_S
        while self._workers or self._web is not None:
            left = deadline - self._store.clock.monotonic()
            if left <= 0 or self._stop is Stop.AT_ONCE:
                break
            await self._wait_for_change(left)
            await self._look()
        for child in [*self._workers, *([self._web] if self._web is not None else [])]:
            child.cut()
        await self._look()


def _evidence(worker: ChildProcess, ended: Exit) -> Evidence:
    assert worker.board is not None
    if worker.is_cut or (worker.is_done and ended.code == 0) or not worker.is_ready:
        return Evidence(ending=Ending.EXITED)
    if worker.is_bereft:  # what it still holds, in another store, is released
        return Evidence(ending=Ending.CRASHED, detail=f"{ended.detail}: its lease was over")
    running = worker.board.running()
    if worker.stuck:
        return Evidence(ending=Ending.TIMED_OUT, started=running, culprit=worker.stuck[0], detail="timeout")
    return Evidence(ending=Ending.CRASHED, started=running, detail=ended.detail)


def _has_keeper(row: OwnerRow) -> bool:
    """Whether the process that renews this owner lives. A pid that was used again hides a death until the lease
    ends."""
    try:
        os.kill(row.info.supervisor_pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def worker_command(target: str, *, concurrency: int, queues: Sequence[str]) -> list[str]:
    """The command of a worker process, to which the supervisor adds the owner and descriptors."""
    command = [sys.executable, "-m", "conveyor.supervisor.worker", "--app", target, "--concurrency", str(concurrency)]
    for queue in queues:
        command += ["--queue", queue]
    return command
