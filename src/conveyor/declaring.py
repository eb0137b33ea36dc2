"""Writes into the store what an app declares. Where one of several stores is away, what belongs there is written when
it answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Final, TypeAlias

from conveyor.cron.scheduler import Scheduler
from conveyor.model.errors import ConveyorError, InvalidSettingError, QueueExistsError, StoreError
from conveyor.model.events import DeclarationDelayed, Emit, QueueStray
from conveyor.model.settings import QueueSettings
from conveyor.queue.handler import Handler
from conveyor.store.protocol import Store
from conveyor.store.routed import RoutedStore

RETRY_S: Final = 1.0


class Default(Enum):
    """What is meant where nothing is said, and None says something else."""

    DEAD_LETTER_QUEUE = "<queue>-dlq"


def check_distinct(handlers: Sequence[Handler]) -> None:
    """`InvalidSettingError` if a queue has two consumers."""
    seen: set[str] = set()
    for handler in handlers:
        if handler.queue in seen:
            raise InvalidSettingError("queue", handler.queue, "has a consumer and jobs in this app")
        seen.add(handler.queue)


_Step: TypeAlias = Callable[[], Awaitable[object]]


async def declare(
    store: Store,
    queues: Mapping[str, QueueSettings],
    handlers: Sequence[Handler],
    scheduler: Scheduler | None,
    emit: Emit,
) -> asyncio.Task[None] | None:
    """Make queues, consumers and schedules what the code says; what goes on with the rest, if there is any."""
    ours = {name: settings for name, settings in queues.items() if not store.at(name).keeps_others}
    steps = [_queue_step(store, name, settings) for name, settings in ours.items()]
    steps += [_consumer_step(store, handler) for handler in handlers]
    if scheduler is not None:
        steps.append(scheduler.declare)
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
