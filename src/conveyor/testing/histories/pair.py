"""Two stores that are asked the same and must say the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from conveyor.model.errors import ConveyorError
from conveyor.model.message import Peeked
from conveyor.store.protocol import Store
from conveyor.store.records import KeyInfo, OwnerRow, QueueInfo, QueueMetrics, Run, Schedule

T = TypeVar("T")

QUEUES: Final = ("a", "b", "dead")
ALERTS: Final = "alerts"
_ALL: Final = 1_000


class Refused(Exception):
    """Both stores refused, for the same reason."""


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """All that can be seen of a store, but for what is the store's own: ids and order of alerts, versions, stamps."""

    messages: list[Peeked]
    """Outside the alert queue."""
    alerts: list[bytes]
    counts: list[tuple[int, int, int]]
    queues: list[QueueInfo]
    owners: list[OwnerRow]
    schedule: Schedule
    runs: list[Run]
    entries: list[KeyInfo]


class Pair:
    """The model and the store under test, on one loop of their own."""

    def __init__(self, model: Store, real: Store) -> None:
        self.model, self.real = model, real
        self._loop = asyncio.new_event_loop()
        for store in (model, real):
            self.run(store.open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def ask(self, call: Callable[[Store], Awaitable[T]], *, view: Callable[[T], object] = lambda answer: answer) -> T:
        """The answer that both give, as far as `view` sees; `Refused` if they refuse."""
        expected, actual = (self.run(_answer(call, store)) for store in (self.model, self.real))
        if isinstance(expected, ConveyorError) or isinstance(actual, ConveyorError):
            assert type(actual) is type(expected), f"expected {expected!r}, got {actual!r}"
            raise Refused(str(expected))
        assert view(actual) == view(expected), f"expected {view(expected)}, got {view(actual)}"
        return actual

    def look(self) -> Picture:
        """What both show."""
        expected, actual = (self.run(_look(store)) for store in (self.model, self.real))
        for field in expected.__struct_fields__:
            theirs, ours = getattr(actual, field), getattr(expected, field)
            assert theirs == ours, f"{field}: expected {ours}, got {theirs}"
        return actual

    def close(self) -> None:
        for store in (self.model, self.real):
            self.run(store.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


async def _answer(call: Callable[[Store], Awaitable[T]], store: Store) -> T | ConveyorError:
    try:
        return await call(store)
    except ConveyorError as error:
        return error


async def _look(store: Store) -> Picture:
    """All at once, so that a store may answer all in one transaction."""
    (*places, alerts), metrics, (queues, owners, schedule, runs, entries) = await asyncio.gather(
        asyncio.gather(*[store.peek(queue, limit=_ALL) for queue in (*QUEUES, ALERTS)]),
        asyncio.gather(*[store.metrics(queue) for queue in QUEUES]),
        _look_around(store),
    )
    return Picture(
        messages=[message for place in places for message in place],
        alerts=sorted(alert.body for alert in alerts),
        counts=[_count(each) for each in metrics],
        queues=[msgspec.structs.replace(queue, version=0, modified_at=0) for queue in queues],
        owners=owners,
        schedule=schedule,
        runs=runs,
        entries=entries,
    )


async def _look_around(
    store: Store,
) -> tuple[list[QueueInfo], list[OwnerRow], Schedule, list[Run], list[KeyInfo]]:
    return await asyncio.gather(
        store.list_queues(),
        store.list_owners(),
        store.get_schedule("nightly"),
        store.list_runs("nightly", limit=_ALL),
        store.kv_list("ns", prefix="", limit=_ALL, after=None),
    )


def _count(metrics: QueueMetrics) -> tuple[int, int, int]:
    return metrics.backlog_messages, metrics.backlog_bytes, metrics.leased
