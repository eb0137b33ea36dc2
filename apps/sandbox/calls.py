"""The tally: what was called, how it ended, and what tokens it was said to cost; a demo shows savings by it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a call ended, in the words the tally uses."""

    OK = "ok"
    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    FAILED = "failed"


@dataclass(slots=True, kw_only=True)
class ProviderTally:
    """One provider's counters."""

    total: int = 0
    endpoints: dict[str, Counter[str]] = field(default_factory=dict)
    tokens: Counter[str] = field(default_factory=Counter)

    def as_plain(self) -> Mapping[str, object]:
        """Write the counters as the admin shows them."""
        endpoints = {name: dict(outcomes) for name, outcomes in self.endpoints.items()}
        return {"total": self.total, "endpoints": endpoints, "tokens": dict(self.tokens)}


class CallLog:
    """Counts calls; keeps no bodies and no keys."""

    def __init__(self) -> None:
        self._tallies: dict[str, ProviderTally] = {}
        self._ordinal = 0

    def next_ordinal(self) -> int:
        """Number a call; a reset does not start anew, because request ids must not repeat."""
        self._ordinal += 1
        return self._ordinal

    def count(self, provider: str, endpoint: str, *, outcome: Outcome, tokens: Mapping[str, int]) -> None:
        """Enter one finished call."""
        tally = self._tallies.setdefault(provider, ProviderTally())
        tally.total += 1
        tally.endpoints.setdefault(endpoint, Counter())[outcome] += 1
        tally.tokens.update(tokens)

    def reset(self) -> None:
        """Forget what was counted."""
        self._tallies.clear()

    def report(self) -> Mapping[str, ProviderTally]:
        """Hand out the counters, by provider."""
        return dict(self._tallies)
