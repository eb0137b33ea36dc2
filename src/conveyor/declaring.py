"""Writes into the store what an app declares. Where one of several stores is away, what belongs there is written when
it answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

from conveyor.cron.scheduler import Scheduler
from conveyor.model.errors import QueueExistsError, StoreError
from conveyor.model.events import DeclarationDelayed, Emit, QueueStray
from conveyor.model.settings import QueueSettings
from conveyor.queue.handler import Handler
from conveyor.store.protocol import Store
from conveyor.store.routed import RoutedStore

RETRY_S: Final = 1.0

_Step: TypeAlias = Callable[[], Awaitable[object]]


async def declare(
    store: Store,
    queues: Mapping[str, QueueSettings],
    handlers: Sequence[Handler],
    scheduler: Scheduler | None,
    emit: Emit,
) -> asyncio.Task[None] | None:
    """Make queues, consumers and schedules what the code says; what goes on with the rest, if there is any."""
    steps: list[_Step] = [_queue_step(store, name, settings) for name, settings in queues.items()]
    steps += [_consumer_step(store, handler) for handler in handlers]
    if scheduler is not None:
        steps.append(scheduler.declare)
    late = await _run(steps, emit) if isinstance(store, RoutedStore) else await _run_all(steps)
    if isinstance(store, RoutedStore):
        await _tell_strays(store, emit)
    return asyncio.create_task(_run_late(store, late, emit)) if late else None


def _queue_step(store: Store, name: str, settings: QueueSettings) -> _Step:
    async def step() -> None:
        with contextlib.suppress(QueueExistsError):
            await store.create_queue(name, settings)

    return step


def _consumer_step(store: Store, handler: Handler) -> _Step:
    async def step() -> None:
        await store.declare_consumer(handler.queue, handler.settings)

    return step


async def _run_all(steps: Sequence[_Step]) -> list[_Step]:
    for step in steps:
        await step()
    return []


async def _run(steps: Sequence[_Step], emit: Emit) -> list[_Step]:
    """Those whose store refuses now."""
    late: list[_Step] = []
    for step in steps:
        try:
            await step()
        except StoreError as error:
            late.append(step)
            emit(DeclarationDelayed(error=str(error)))
    return late


async def _run_late(store: Store, late: Sequence[_Step], emit: Emit) -> None:
    while late:
        await store.clock.sleep(RETRY_S)
        late = await _run(late, emit)


async def _tell_strays(store: RoutedStore, emit: Emit) -> None:
    """Messages that lie where no route leads to any more have no workers."""
    with contextlib.suppress(StoreError):
        for name, info in await store.list_strays():
            waiting = (await store.parts[name].metrics(info.name)).backlog_messages
            if waiting:
                home = store.routing.store_of(info.name)
                emit(QueueStray(queue=info.name, store=name, routed_to=home, messages=waiting))
