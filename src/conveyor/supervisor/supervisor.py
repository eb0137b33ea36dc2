"""Starts worker processes, renews their leases, and settles their affairs when they die.

It runs no user code, so nothing that a handler does can keep it from its heartbeat. When a worker dies it knows from the
board which handlers had begun, and hands that to the store as evidence (T5).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from conveyor.model.errors import StoreError
from conveyor.model.events import Emit, WorkerDied
from conveyor.queue.board import Board
from conveyor.queue.heartbeat import HEARTBEAT_S, SWEEP_S
from conveyor.store.protocol import Ending, Evidence, OwnerInfo, OwnerRow, Reaped, Store
from conveyor.supervisor.process import ChildProcess, Exit

BOARD_SLOTS: Final = 8_192
GRACE_S: Final = 10.0
QUICK_DEATHS_MAX: Final = 5
"""Deaths before a worker was ready, in a row: then the app itself is at fault, and we stop."""
RESTART_S_MAX: Final = 5.0
ONE_SIGNAL_S: Final = 0.5
CHILD_FAILED: Final = 3
"""Exit code of a child that could not load its app: no use to start it again."""


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
        self._workers: list[ChildProcess] = []
        self._web: ChildProcess | None = None
        self._changed = asyncio.Event()
        self._stop: Stop | None = None
        self._quick_deaths = 0
        self._failed = False
        self._restart_at = 0.0
        self._stopped_at = 0.0
        self._orphans: set[int] = set()

    async def run(self) -> int:
        """Start everything, tend it, and end it in good order."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._changed.set)
        tending = [asyncio.create_task(self._tend_leases()), asyncio.create_task(self._tend_store())]
        try:
            await self._tend_children()
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)
            for task in tending:
                task.cancel()
            await asyncio.gather(*tending, return_exceptions=True)
        return 1 if self._failed else 0

    def stop(self) -> None:
        """Gracefully; the second time at once. Two signals in a blink are one: a terminal and `timeout` send them so."""
        now = self._store.clock.monotonic()
        if self._stop is None:
            self._stop, self._stopped_at = Stop.GRACEFULLY, now
        elif now - self._stopped_at > ONE_SIGNAL_S:
            self._stop = Stop.AT_ONCE
        self._changed.set()

    async def _tend_children(self) -> None:
        while self._stop is None and not self._failed:
            await self._fill_up()
            await self._wait_for_change(self._pause())
            await self._look()
        await self._end_all()

    def _pause(self) -> float | None:
        """None: nothing is due before a child changes."""
        if len(self._workers) < self._plan.processes:
            return max(0.01, self._restart_at - self._store.clock.monotonic())
        return None

    async def _wait_for_change(self, timeout_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        self._changed.clear()

    async def _fill_up(self) -> None:
        if self._store.clock.monotonic() < self._restart_at:
            return
        while len(self._workers) < self._plan.processes:
            self._workers.append(self._watch(await self._start_worker()))
        if self._plan.web is not None and self._web is None:
            self._web = self._watch(ChildProcess(self._plan.web, board=None, owner=0))

    async def _start_worker(self) -> ChildProcess:
        info = OwnerInfo(app=self._plan.app, host=self._store.host, pid=0, supervisor_pid=os.getpid())
        owner = await self._store.register_owner(info)
        return ChildProcess([*self._plan.worker, "--owner", str(owner)], board=Board.create(BOARD_SLOTS), owner=owner)

    def _watch(self, child: ChildProcess) -> ChildProcess:
        asyncio.get_running_loop().add_reader(child.fileno(), self._hear, child)
        return child

    def _hear(self, child: ChildProcess) -> None:
        child.hear()
        if child.is_ready:
            self._quick_deaths = 0
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
        self._judge(worker, ended)
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
        """Until the store takes it: without this the leases live on until the owner's lease ends."""
        while True:
            try:
                return await self._store.reap_owner(owner, evidence)
            except StoreError:
                await self._store.clock.sleep(SWEEP_S)

    def _judge(self, child: ChildProcess, ended: Exit) -> None:
        """Whether to start another, and how soon."""
        if child.is_ready:
            self._restart_at = self._store.clock.monotonic()
            return
        self._quick_deaths += 1
        delay = min(RESTART_S_MAX, 0.1 * 2**self._quick_deaths)
        self._restart_at = self._store.clock.monotonic() + delay
        if ended.code == CHILD_FAILED or self._quick_deaths >= QUICK_DEATHS_MAX:
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
                for worker in workers:
                    if worker.owner in lost:
                        worker.kill()  # somebody has given its messages away

    async def _tend_store(self) -> None:
        """What time makes due; jittered, since every supervisor does it."""
        while True:
            await self._store.clock.sleep(SWEEP_S * (0.75 + self._chance.random() / 2))
            with contextlib.suppress(StoreError):
                swept = await self._store.sweep()
                await self._reap_orphans()
                while swept.total >= 1_000:
                    swept = await self._store.sweep()

    async def _reap_orphans(self) -> None:
        """Workers of this machine whose supervisor is dead end at once; seen so a second time, they have."""
        mine = {worker.owner for worker in self._workers}
        orphans = {
            row.owner
            for row in await self._store.list_owners()
            if row.owner not in mine and row.info.host == self._store.host and not _has_keeper(row)
        }
        for owner in orphans & self._orphans:
            await self._store.reap_owner(owner, Evidence(ending=Ending.LOST, detail="its supervisor died"))
        self._orphans = orphans

    async def _end_all(self) -> None:
        children = [*self._workers, *([self._web] if self._web is not None else [])]
        for child in children:
            child.terminate()
        deadline = self._store.clock.monotonic() + self._plan.grace_s + 2
        while self._workers or self._web is not None:
            left = deadline - self._store.clock.monotonic()
            if left <= 0 or self._stop is Stop.AT_ONCE:
                break
            await self._wait_for_change(left)
            await self._look()
        for child in [*self._workers, *([self._web] if self._web is not None else [])]:
            child.kill()
            child.wait()
        await self._look()


def _evidence(worker: ChildProcess, ended: Exit) -> Evidence:
    assert worker.board is not None
    running = worker.board.running()
    if worker.stuck:
        return Evidence(ending=Ending.TIMED_OUT, started=running, culprit=worker.stuck[0], detail="timeout")
    if ended.stopped:
        return Evidence(ending=Ending.LOST, detail=ended.detail)
    if ended.code == 0:
        return Evidence(ending=Ending.EXITED)
    return Evidence(ending=Ending.CRASHED, started=running, detail=ended.detail)


def _has_keeper(row: OwnerRow) -> bool:
    """Whether the process that renews this owner lives. A pid that was used again hides a death until the lease ends."""
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


