"""`with app.testing() as kit`: the kit for tests that are not async. The app is open in a thread of its own."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

from conveyor.jobs.job import Job
from conveyor.model.duration import Duration
from conveyor.model.message import Peeked
from conveyor.testing.calls import CALLS_MAX, Run
from conveyor.testing.looking import ANYTHING, Enqueued

if TYPE_CHECKING:
    from conveyor.testing.harness import Harness

T = TypeVar("T")


class SyncHarness:
    """Each verb of `Harness`, without `await`; `kit.run(job.enqueue(payload))` for those of the app."""

    def __init__(self, kit: Harness) -> None:
        self.kit = kit
        self.app = kit.app

    def __enter__(self) -> Self:
        self.run(self.kit.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self.run(self.kit.__aexit__(*error))

    def run(self, waited: Awaitable[T]) -> T:
        """Wait for a coroutine of the app."""

        async def wait() -> T:
            return await waited

        return self.app.run_sync(wait())

    @property
    def now(self) -> datetime:
        return self.kit.now

    @property
    def runs(self) -> list[Run]:
        return self.kit.runs

    @property
    def failures(self) -> list[Run]:
        return self.kit.failures

    def drain(self, *, within: Duration | None = None, most: int = CALLS_MAX) -> int:
        return self.run(self.kit.drain(within=within, most=most))

    def travel(self, duration: Duration) -> None:
        self.run(self.kit.travel(duration))

    def travel_to(self, moment: datetime) -> None:
        self.run(self.kit.travel_to(moment))

    def result(self, job: Job[T]) -> T:
        return self.run(self.kit.result(job))

    def enqueued(self, of: Enqueued) -> list[Peeked]:
        return self.kit.enqueued(of)

    def assert_enqueued(
        self, of: Enqueued, *, payload: object = ANYTHING, body: object = ANYTHING, count: int | None = None,
        delay: Duration | None = None, key: str | None = None, priority: int | None = None,
    ) -> None:  # fmt: skip
        self.kit.assert_enqueued(
            of, payload=payload, body=body, count=count, delay=delay, key=key, priority=priority
        )

    def assert_not_enqueued(self, of: Enqueued, **marks: Any) -> None:
        self.kit.assert_not_enqueued(of, **marks)
