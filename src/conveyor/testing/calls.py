"""One call of a handler in a test, and what is remembered of it: the error itself, which a job's runner would put into
words for the store."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from conveyor.jobs.runner import Runner
from conveyor.model.message import Lease
from conveyor.model.verdict import Action, RateLimited, Retry, Settlement, Snooze
from conveyor.queue.dispatch import attempt
from conveyor.queue.handler import Handler
from conveyor.store.jobs import job_name

CALLS_MAX: Final = 100_000
"""A drain that goes on for longer has messages that send each other."""
_VERDICTS: Final = (Retry, RateLimited, Snooze)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A handler was called."""

    queue: str
    job: str | None
    """The job's name; None for other messages."""
    ids: tuple[str, ...]
    """Of the messages it was given: one, or those of a batch."""
    attempt: int
    error: BaseException | None
    """What it raised."""
    actions: tuple[Action, ...]
    """What became of each message."""

    @classmethod
    def of(cls, leases: Sequence[Lease], error: BaseException | None, closed: Sequence[Settlement]) -> Self:
        first = leases[0]
        return cls(
            queue=first.queue, job=job_name(first.headers), ids=tuple(each.id.hex() for each in leases),
            attempt=first.attempts, error=error, actions=tuple(each.action for each in closed),
        )  # fmt: skip

    @property
    def has_failed(self) -> bool:
        return self.error is not None and not isinstance(self.error, _VERDICTS)


async def make_call(handler: Handler, argument: Any) -> tuple[object, BaseException | None, BaseException | None]:
    """What the handler returned, what it raised, and what the user's function raised in it."""
    raised: list[BaseException] = []
    function = _listened(handler.function, raised.append)
    returned: object = None
    error: BaseException | None = None
    if handler.is_async:
        try:
            returned = await function(argument)
        except Exception as problem:  # noqa: BLE001 whatever a handler raises is a failed attempt
            error = problem
    else:
        ended: tuple[object, BaseException | None] = await asyncio.to_thread(attempt, function, argument)
        returned, error = ended
    return returned, error, error or (raised[-1] if raised else None)


def _listened(function: Callable[[Any], Any], tell: Callable[[BaseException], None]) -> Callable[[Any], Any]:
    """The same, and of a job's function it is told what it raises."""
    runner = getattr(function, "__self__", None)
    if not isinstance(runner, Runner):
        return function
    heard = copy.copy(runner)
    inner = runner.declared.function

    @functools.wraps(inner)
    async def hear_async(*arguments: Any) -> Any:
        try:
            return await inner(*arguments)
        except Exception as error:
            tell(error)
            raise

    @functools.wraps(inner)
    def hear(*arguments: Any) -> Any:
        try:
            return inner(*arguments)
        except Exception as error:
            tell(error)
            raise

    heard.declared = dataclasses.replace(runner.declared, function=hear_async if runner.declared.is_async else hear)
    listened: Callable[[Any], Any] = getattr(heard, function.__name__)
    return listened
