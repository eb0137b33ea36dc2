"""Two stores that are asked the same and must say the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from conveyor.model.errors import ConveyorError
from conveyor.model.message import Peeked
from conveyor.store.protocol import Run, Store

T = TypeVar("T")

QUEUES = ("a", "b", "dead")
ALERTS = "alerts"


class Refused(Exception):
    """Both stores refused, for the same reason."""


class Pair:
    """The model and the store under test, on one loop of their own."""

    def __init__(self, model: Store, real: Store) -> None:
        self.model, self.real = model, real
        self._runner = asyncio.Runner()
        for store in (model, real):
            self.run(store.open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def ask(self, call: Callable[[Store], Awaitable[T]], *, view: Callable[[T], object] = lambda answer: answer) -> T:
        """The answer that both give, as far as `view` sees; `Refused` if they refuse."""
        expected, actual = (self.run(_answer(call, store)) for store in (self.model, self.real))
        if isinstance(expected, ConveyorError) or isinstance(actual, ConveyorError):
            assert type(actual) is type(expected), f"expected {expected!r}, got {actual!r}"
            raise Refused(str(expected))
        assert view(actual) == view(expected), f"expected {view(expected)}, got {view(actual)}"
        return actual

    def close(self) -> None:
        for store in (self.model, self.real):
            self.run(store.close())
        self._runner.close()

    def compare(self) -> tuple[list[Peeked], int]:
        """All that can be seen must be the same: the messages outside the alert queue, and how many alerts there are."""
        seen: list[Peeked] = []
        for queue in QUEUES:
            try:
                seen += self.ask(lambda store, name=queue: store.peek(name, limit=1_000))  # type: ignore[misc]
            except Refused:
                continue
            self.ask(lambda store, name=queue: store.metrics(name), view=_counts)  # type: ignore[misc]
        alerts = self.ask(lambda store: store.peek(ALERTS, limit=1_000), view=_bodies)
        self.ask(lambda store: store.list_queues(), view=_operating)
        self.ask(lambda store: store.list_owners())
        self.ask(_runs)
        self.ask(lambda store: store.kv_list("ns", prefix="", limit=100, after=None))
        return seen, len(alerts)


async def _answer(call: Callable[[Store], Awaitable[T]], store: Store) -> T | ConveyorError:
    try:
        return await call(store)
    except ConveyorError as error:
        return error


async def _runs(store: Store) -> list[Run]:
    return [
        run
        for schedule in await store.list_schedules()
        for run in await store.list_runs(schedule.draft.name, limit=1_000)
    ]


def _bodies(alerts: list[Peeked]) -> object:
    """Their ids are the store's own, and the order of deaths within one step is nobody's business."""
    return sorted(alert.body for alert in alerts)


def _counts(metrics: Any) -> object:
    return metrics.backlog_messages, metrics.backlog_bytes, metrics.leased


def _operating(queues: Any) -> object:
    return [(queue.name, queue.settings, queue.consumer, queue.paused) for queue in queues]
