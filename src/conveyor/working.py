"""Runs an app's consumers and schedules in this process: under a supervisor, or embedded in somebody else's program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol

from conveyor.cron.scheduler import Scheduler
from conveyor.model.errors import InvalidSettingError
from conveyor.model.events import Emit, ScheduleDelayed
from conveyor.queue.board import Board
from conveyor.queue.handler import Handler
from conveyor.queue.heartbeat import Heartbeat, keep_alive
from conveyor.queue.immediate import Here
from conveyor.queue.isolation import ChildPool
from conveyor.queue.notices import Announcer
from conveyor.queue.outcome import show_error
from conveyor.queue.worker import GRACE_S, OnStuck, Stop, Worker
from conveyor.store.protocol import Store
from conveyor.store.records import Ending, Evidence, OwnerInfo
from conveyor.store.routing import Routing


class App(Protocol):
    """What there is to run."""

    name: str
    target: str | None
    emit: Emit
    routing: Routing

    @property
    def here(self) -> Here: ...

    @property
    def store(self) -> Store: ...

    def handlers(self) -> Sequence[Handler]: ...

    def scheduler(self) -> Scheduler | None: ...

    def another_store(self) -> Store: ...


SCHEDULER_RETRY_S: Final = 1.0
BOARD_SLOTS: Final = 8_192


async def work(
    store: Store,
    handlers: Sequence[Handler],
    scheduler: Scheduler | None,
    *,
    owner: int,
    board: Board,
    target: str | None,
    concurrency: int,
    emit: Emit,
    on_start: Callable[[Worker], None],
    on_stuck: OnStuck | None = None,
    grace_s: float = GRACE_S,
    here: Here | None = None,
) -> None:
    """Until the worker is stopped or this is cancelled. `on_start` is given the worker, to stop it by."""
    chance = random.Random()
    announcer = Announcer(store, emit)
    emit = announcer.emit
    children = ChildPool(child_command(target), os.cpu_count() or 1, emit) if target is not None else None
    worker = Worker(
        store,
        owner,
        handlers,
        concurrency=concurrency,
        board=board,
        isolation=children,
        emit=emit,
        random=chance,
        on_stuck=on_stuck,
        grace_s=grace_s,
        here=here,
    )
    on_start(worker)
    firing = asyncio.create_task(_fire(scheduler, store, emit)) if scheduler is not None else None
    try:
        await worker.run()
    finally:
        if firing is not None:
            firing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await firing
        if children is not None:
            await children.close()
        await announcer.close()


def machine_of(store: Store) -> str:
    """Where a pid means something: machine, boot and, among containers, the namespace of pids."""
    try:
        return f"{store.host}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return store.host


async def _fire(scheduler: Scheduler, store: Store, emit: Emit) -> None:
    """Schedules outlive whatever the store is going through."""
    while True:
        try:
            await scheduler.run()
        except Exception as error:  # noqa: BLE001 a schedule that stopped in silence would be missed much later
            emit(ScheduleDelayed(error=show_error(error)))
        await store.clock.sleep(SCHEDULER_RETRY_S)


def child_command(target: str) -> list[str]:
    """The command of a child that runs single calls."""
    return [sys.executable, "-m", "conveyor.queue.child", target]


def choose_handlers(handlers: Sequence[Handler], queues: Sequence[str] | None) -> list[Handler]:
    """Those of these queues, or all. `InvalidSettingError` names one that nobody handles."""
    if not queues:
        return list(handlers)
    known = {each.queue: each for each in handlers}
    for queue in queues:
        if queue not in known:
            there = ", ".join(known) or "none at all: declare one with `@app.consumer(...)`"
            raise InvalidSettingError("queues", queue, "has no consumer in this app", hint=f"it has {there}")
    return [known[queue] for queue in queues]


async def work_app(app: App, queues: Sequence[str] | None, concurrency: int) -> None:
    """The consumers of an open app, or of these queues alone, and its schedules; until cancelled."""
    await work_embedded(
        app.store, choose_handlers(app.handlers(), queues), app.scheduler(), app=app.name, target=app.target,
        concurrency=concurrency, emit=app.emit, another_store=None if app.routing.is_in_memory else app.another_store,
        here=app.here,
    )  # fmt: skip


async def work_embedded(
    store: Store,
    handlers: Sequence[Handler],
    scheduler: Scheduler | None,
    *,
    app: str,
    target: str | None,
    concurrency: int,
    emit: Emit,
    another_store: Callable[[], Store] | None,
    here: Here | None = None,
) -> None:
    """Be an owner of one's own, kept alive by a thread (or by a task, where the store cannot be opened twice)."""
    info = OwnerInfo(app=app, host=machine_of(store), pid=os.getpid(), supervisor_pid=os.getpid())
    owner = await store.register_owner(info)
    board = Board.create(BOARD_SLOTS)
    loop = asyncio.get_running_loop()
    workers: list[Worker] = []

    def lost() -> None:
        for worker in workers:
            loop.call_soon_threadsafe(worker.lose_leases)

    async with _kept_alive(store, owner, another_store, lost):
        working = asyncio.create_task(
            work(
                store,
                handlers,
                scheduler,
                owner=owner,
                board=board,
                target=target,
                concurrency=concurrency,
                emit=emit,
                on_start=workers.append,
                here=here,
            )
        )
        try:
            await asyncio.shield(working)
        finally:
            for worker in workers:
                worker.stop(Stop.NOW)
            await _see_through(working)
            await _see_through(asyncio.create_task(_give_back(store, owner)))
            board.close()


async def _give_back(store: Store, owner: int) -> None:
    await store.reap_owner(owner, Evidence(ending=Ending.EXITED))


async def _see_through(task: asyncio.Task[None]) -> None:
    """Wait for its end, however often we are cancelled meanwhile (a cancelled anyio scope does so at every await)."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])


@contextlib.asynccontextmanager
async def _kept_alive(
    store: Store, owner: int, another_store: Callable[[], Store] | None, lost: Callable[[], None]
) -> AsyncIterator[None]:
    if another_store is not None:
        heartbeat = Heartbeat(another_store, owner, on_lost=lost)
        heartbeat.start()
        try:
            yield
        finally:
            await _see_through(asyncio.create_task(asyncio.to_thread(heartbeat.stop)))
        return
    ends = threading.Event()
    beating = asyncio.create_task(keep_alive(store, owner, ends=ends, on_lost=lost))
    try:
        yield
    finally:
        ends.set()
        beating.cancel()
        await _see_through(beating)
