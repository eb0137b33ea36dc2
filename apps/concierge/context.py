"""What a processor of jobs is given beside its job."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from conveyor import Bucket
from conveyor_apps.tables import Database

from .messages import Messages
from .providers import DeliveryService
from .settings import Settings


class Safety(Protocol):
    """Tells operators how it goes, without names, addresses and contents. Nothing here raises or waits."""

    def breadcrumb(self, event: str, **facts: str | float) -> None:
        """One step of the way; ids, states, numbers and codes only."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The same for all jobs of a process, but for the last two."""

    settings: Settings
    database: Database
    messages: Messages
    providers: DeliveryService
    bucket: Bucket
    """Where exports and archives lie."""
    safety: Safety
    notify: Callable[[str, str, str], Awaitable[None]]
    """Tell a user (by name) something as an e-mail through the queue: user, subject, content."""
    enqueue: Callable[[Any, int | None], Awaitable[None]]
    """Send another job; at that moment in milliseconds, or now."""
    attempt: int = 1
    version: int = 1
    """Of the message; an older one than the row's is stale."""
