"""Every order for a video that came, and the limit per minute: tests count here who ordered what, and when."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from .clock import SandboxClock
from .provider import Problem, ProblemError, Trouble

MINUTE: Final = timedelta(minutes=1)
KEPT_MAX: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One order, taken or not."""

    provider: str
    at: datetime
    """On the sandbox's clock, when it came."""
    client_id: str
    """What the client calls it."""
    operation: str
    """Empty if it was not taken."""


class Submissions:
    """Remembers the orders of all providers, and turns away those above the limit."""

    def __init__(self, clock: SandboxClock) -> None:
        self._clock = clock
        self._all: deque[Submission] = deque(maxlen=KEPT_MAX)
        self._taken_at: dict[str, deque[datetime]] = {}

    def enter(self, provider: str, client_id: str, operation: str, *, per_minute: int | None) -> None:
        """Take an order, or turn it away: within any minute no more than so many are taken."""
        now = self._clock.now()
        taken = self._taken_at.setdefault(provider, deque(maxlen=KEPT_MAX))
        if per_minute is not None and len(taken) >= per_minute:
            wait_s = (taken[-per_minute] + MINUTE - now).total_seconds()
            if wait_s > 0:
                self.refuse(provider, client_id)
                raise ProblemError(Problem(trouble=Trouble.RATE_LIMITED, retry_after_s=ceil(wait_s)))
        taken.append(now)
        self._all.append(Submission(provider=provider, at=now, client_id=client_id, operation=operation))

    def refuse(self, provider: str, client_id: str) -> None:
        """Note an order that was not taken."""
        self._all.append(Submission(provider=provider, at=self._clock.now(), client_id=client_id, operation=""))

    def report(self) -> list[Mapping[str, object]]:
        """All of them, the oldest first."""
        return [asdict(each) for each in self._all]

    def reset(self) -> None:
        """Forget them; the limit does not."""
        self._all.clear()
