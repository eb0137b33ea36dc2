"""A circuit breaker for each provider, shared by all jobs of a process.

closed      everything passes; `failures` in a row open it
open        nothing passes until its time is over; each opening after another lasts twice as long
half-open   one goes ahead; it closes the circuit, or opens it again
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PROBE_S: Final = 1.0
"""How long those wait who meet a half-open circuit."""


class Standing(StrEnum):
    """How a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When it opens, and for how long."""

    failures: int = 5
    open_s: float = 30.0
    open_s_max: float = 600.0


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to make one call; how it ends counts only for the circuit as it then stood."""

    round: int


class Circuit:
    """One provider's. `now_s` is a clock that nobody sets."""

    def __init__(self, now_s: Callable[[], float], terms: Terms | None = None) -> None:
        self._now_s = now_s
        self._terms = terms or Terms()
        self._failures = 0
        self._openings = 0
        self._until_s: float | None = None
        self._round = 0
        """Moves on whenever the circuit opens or closes: what began before it says nothing any more."""
        self._probing = False

    @property
    def standing(self) -> Standing:
        """How it stands now."""
        if self._until_s is None:
            return Standing.CLOSED
        return Standing.OPEN if self._now_s() < self._until_s else Standing.HALF_OPEN

    @property
    def wait_s(self) -> float:
        """How long until somebody may pass; 0: now."""
        match self.standing:
            case Standing.CLOSED:
                return 0
            case Standing.OPEN:
                return (self._until_s or 0) - self._now_s()
            case Standing.HALF_OPEN:
                return PROBE_S if self._probing else 0

    def enter(self) -> Pass | None:
        """Leave to call; None while nobody may. It must be given back by one of the next four."""
        if self.wait_s > 0:
            return None
        self._probing = self._until_s is not None
        return Pass(self._round)

    def worked(self, leave: Pass) -> None:
        """The provider answered as one that is well, whatever it thought of the message."""
        if leave.round != self._round:
            return
        self._failures = 0
        if self._until_s is not None:
            self._turn(None)
            self._openings = 0

    def failed(self, leave: Pass) -> None:
        """The provider is in trouble."""
        if leave.round != self._round:
            return
        self._failures += 1
        if self._until_s is not None or self._failures >= self._terms.failures:
            longest = min(self._terms.open_s * 2 ** min(self._openings, 16), self._terms.open_s_max)
            self._turn(self._now_s() + longest)
            self._openings += 1

    def rest(self, leave: Pass, after_s: float) -> None:
        """The provider asks to be left alone for so long; that is no failure."""
        if leave.round == self._round:
            self._turn(self._now_s() + after_s)

    def let_go(self, leave: Pass) -> None:
        """The call was given up by us, and says nothing."""
        if leave.round == self._round:
            self._probing = False

    def _turn(self, until_s: float | None) -> None:
        self._until_s = until_s
        self._failures = 0
        self._probing = False
        self._round += 1
