"""What a processor of jobs is given beside its job."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from conveyor import Bucket
from conveyor_apps.tables import Database

from .audit import Trail
from .deliveries import Deliveries
from .jobs import ExportJob
from .messages import Messages
from .providers import DeliveryService
from .sensitive import SensitiveBytes, veiled
from .settings import Settings


class Safety(Protocol):
    """Tells operators how it goes, without names, addresses and contents. Nothing here raises or waits, but for the
    first three."""

    async def open(self, database: Database) -> None:
        """Once the tables are there; what was told before is not lost."""
        ...

    async def close(self) -> None:
        """Write down and send off what is left."""
        ...

    def job(self, job: object, attempt: int) -> AbstractContextManager[None]:
        """Around one attempt of a job: what is told within it is of this job, and what its sensitive fields hold is
        struck out of it."""
        ...

    def listen(self, emit: Callable[[Any], None]) -> Callable[[Any], None]:
        """The queue's own events on their way to its log: with the kinds of errors, and none of their words."""
        ...

    async def look(
        self, facts: Callable[[], Awaitable[Mapping[str, Any]]], providers: list[dict[str, object]]
    ) -> object:
        """Once a minute: tell what is wrong, and what is not any more."""
        ...

    async def text(
        self, facts: Callable[[], Awaitable[Mapping[str, Any]]], providers: list[dict[str, object]]
    ) -> str:
        """All that was counted, in Prometheus' text format."""
        ...

    def breadcrumb(self, event: str, **facts: str | float) -> None:
        """One step of the way; ids, states, numbers and codes only."""
        ...

    def warn(self, event: str, words: str) -> None:
        """Something about this installation that its operators should change; words of ours, for people."""
        ...

    def capture(self, error: BaseException, **facts: str | float) -> None:
        """Something that somebody should look at."""
        ...

    def count(self, event: str, **labels: str) -> None:
        """One more of these."""
        ...

    def observe(self, event: str, seconds: float, **labels: str) -> None:
        """How long it took."""
        ...


@veiled
@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One of them."""

    number: int
    id: str
    origin: str
    """The queue in which it died."""
    reason: str
    died_at: int
    attempts: int
    body: SensitiveBytes
    """As it lies there: perhaps encrypted."""
    opened: SensitiveBytes
    """The same, if there is a key for it; empty if there is none."""


class DeadLetters(Protocol):
    """What failed for good, as it lies in the dead letter queue."""

    async def page(self, after: int, limit: int) -> list[DeadLetter]:
        """Those behind this number, the oldest first."""
        ...

    async def discard(self, numbers: Sequence[int]) -> int:
        """Delete these; how many were there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The same for all jobs of a process."""

    settings: Settings
    database: Database
    messages: Messages
    deliveries: Deliveries
    trail: Trail
    providers: DeliveryService
    bucket: Bucket
    """Where exports and archives lie."""
    safety: Safety
    notify: Callable[[str, str, str], Awaitable[None]]
    """Tell a user (by name) something as an e-mail through the queue: user, subject, content."""
    enqueue: Callable[[Any, int | None], Awaitable[None]]
    """Send another job; at that moment in milliseconds, or now."""
    start_export: Callable[[ExportJob], Awaitable[None]]
    """Let a worker of exports write it: `exports.declare_exports(app, context)` gives this."""
    dead_letters: DeadLetters
    """Of the queue of messages: `cleanup.dead_letters_of(app)`."""
