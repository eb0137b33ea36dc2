"""Writes into the store what an app declares, once it agrees with what its wrangler file says. Where one of several
stores is away, what belongs there is written when it answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

from conveyor.audit.act import acting
from conveyor.cron.schedule import Declared
from conveyor.cron.scheduler import Scheduler
from conveyor.model.cron_dialect import Syntax, read
from conveyor.model.duration import SECOND_MS
from conveyor.model.errors import ConveyorError, InvalidSettingError, QueueExistsError, StoreError
from conveyor.model.events import DeclarationDelayed, Emit, QueueStray
from conveyor.model.settings import QueueSettings, check_name
from conveyor.queue.handler import Handler
from conveyor.retention import Retention
from conveyor.store.protocol import Store
from conveyor.store.routed import RoutedStore
from conveyor.wrangler import Worker

RETRY_S: Final = 1.0


def check_distinct(handlers: Sequence[Handler]) -> None:
    """`InvalidSettingError` if a queue has two consumers."""
    seen: set[str] = set()
    for handler in handlers:
        if handler.queue in seen:
            hint = "give the jobs another: `@app.job(queue=...)`"
            raise InvalidSettingError("queue", handler.queue, "has a consumer and jobs in this app", hint=hint)
        seen.add(handler.queue)


_Step: TypeAlias = Callable[[], Awaitable[object]]


def queues_of(worker: Worker) -> dict[str, QueueSettings]:
    """The queues to which a wrangler file's Worker sends. `InvalidSettingError`."""
    queues = {
        name: QueueSettings(delivery_delay_ms=(delay or 0) * SECOND_MS) for name, delay in worker.producers.items()
    }
    for name, settings in queues.items():
        check_name("queue", name)
        settings.check()
    return queues


def check_worker(worker: Worker, handlers: Mapping[str, Handler], schedules: Mapping[str, Declared]) -> None:
    """`InvalidSettingError` names what a wrangler file says and no function of the app does."""
    for queue in worker.consumers:
        if queue not in handlers:
            problem = f"no function of this app consumes it (in {worker.source})"
            hint = f"declare one with `@app.consumer({queue!r})`, or take the consumer out of the file"
            raise InvalidSettingError("queues.consumers.queue", queue, problem, hint=hint)
    for number, text in enumerate(worker.crons):
        _check_cron(f"triggers.crons[{number}]", text, worker.source, list(schedules.values()))


def _check_cron(name: str, text: str, source: str, schedules: Sequence[Declared]) -> None:
    """What a schedule means counts, not how it is written: a file's lines are Cloudflare's, in UTC."""
    meant = read(text, Syntax.CLOUDFLARE)
    same = [each for each in schedules if read(each.expression.text, each.expression.syntax) == meant]
    if any(each.expression.timezone == "UTC" for each in same):
        return
    problem, hint = "no schedule of this app runs then", f'declare one with `@app.cron({text!r}, syntax="cloudflare")`'
    if same:
        problem = f"`{same[0].name}` runs then, but by the clock of {same[0].expression.timezone}"
        hint = "crons of a wrangler file are in UTC: take it out of the file, or declare the schedule in UTC"
    elif any(each.expression.text.split() == text.split() for each in schedules):
        problem = "the schedule with these words runs on other days, since to Cloudflare Sunday is 1 and Saturday 7"
        hint = f'declare it with `@app.cron({text!r}, syntax="cloudflare")`'
    raise InvalidSettingError(name, text, f"{problem} (in {source})", hint=hint)


class Declaration:
    """What an app says of its store, written there whenever a process opens it: not in a fork of one that has."""

    def __init__(self, write: Callable[[], Awaitable[asyncio.Task[None] | None]]) -> None:
        self._write = write
        self._rest: asyncio.Task[None] | None = None
        self._pid = 0

    async def make(self) -> None:
        """`write` it, and let what it begins go on."""
        if self._pid in {0, os.getpid()}:
            self._rest = await self._write()
            self._pid = os.getpid() if self._rest is None else 0

    def leave(self) -> None:
        """The store is about to close."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None


async def declare(
    store: Store,
    queues: Mapping[str, QueueSettings],
    handlers: Sequence[Handler],
    scheduler: Scheduler | None,
    emit: Emit,
    kept: Mapping[str, int | None],
) -> asyncio.Task[None] | None:
    """Make queues, consumers and schedules what the code says; what goes on with the rest, if there is any."""
    ours = {name: settings for name, settings in queues.items() if not store.at(name).keeps_others}
    steps = [_queue_step(store, name, settings) for name, settings in ours.items()]
    steps += [_consumer_step(store, handler) for handler in handlers]
    if scheduler is not None:
        steps.append(scheduler.declare)
    if kept:
        steps.append(lambda: Retention(store).declare(kept))
    steps = [_recorded(store, step) for step in steps]
    if not isinstance(store, RoutedStore):
        for step in steps:
            await step()
        return None
    late: dict[_Step, str] = {}
    for step in steps:
        try:
            await step()
        except StoreError as error:
            late[step] = str(error)
            emit(DeclarationDelayed(error=str(error)))
    await _tell_strays(store, emit)
    return asyncio.create_task(_go_on(store, late, emit)) if late else None


def _queue_step(store: Store, name: str, settings: QueueSettings) -> _Step:
    async def step() -> None:
        with contextlib.suppress(QueueExistsError):
            await store.create_queue(name, settings)

    return step


def _consumer_step(store: Store, handler: Handler) -> _Step:
    async def step() -> None:
        if handler.settings.tracks_jobs and store.at(handler.queue).keeps_others:
            problem = "lives behind Cloudflare's API, which keeps no jobs"
            raise InvalidSettingError("queue", handler.queue, problem, hint="use `@app.consumer` there")
        await store.declare_consumer(handler.queue, handler.settings)

    return step


def _recorded(store: Store, step: _Step) -> _Step:
    async def act() -> None:
        async with acting(store, "app.declare", only_changes=True):
            await step()

    return act


async def _go_on(store: Store, late: dict[_Step, str], emit: Emit) -> None:
    """Until all is written; each new reason why it is not is told once."""
    while late:
        await store.clock.sleep(RETRY_S)
        for step, known in list(late.items()):
            try:
                await step()
            except ConveyorError as error:
                if str(error) != known:
                    late[step] = str(error)
                    emit(DeclarationDelayed(error=str(error)))
            else:
                del late[step]


async def _tell_strays(store: RoutedStore, emit: Emit) -> None:
    """Messages that lie where no route leads any more have no workers."""
    for name, part in store.parts.items():
        if part.keeps_others:
            continue
        with contextlib.suppress(StoreError):
            for info in await part.list_queues():
                home = store.routing.store_of(info.name)
                if home != name and (waiting := (await part.metrics(info.name)).backlog_messages):
                    emit(QueueStray(queue=info.name, store=name, routed_to=home, messages=waiting))
