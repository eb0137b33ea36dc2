"""What was accepted: every message that a provider said yes to, or took and never answered, so that a test can count
who got something twice."""

from collections import Counter, deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

KEPT_MAX: Final = 50_000


class PostName(StrEnum):
    """Those who take messages, as mishaps and the ledger name them."""

    SMTP = "smtp"
    RESEND = "resend"
    TWILIO = "twilio"


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """One message that was taken."""

    number: int
    """From 1, over all providers."""
    provider: PostName
    id: str
    """The provider's own; SMTP has none but the number."""
    reference: str
    """What makes it the same message in the sender's eyes: the Message-ID, the Idempotency-Key, or of a text message
    its StatusCallback, else its recipient and its words."""
    sender: str
    recipients: tuple[str, ...]
    subject: str
    text: str
    html: str
    at: str
    is_answered: bool
    """False: it was taken, and the connection cut without a word."""
    raw: bytes
    """The mail as it came; empty for others."""


class Ledger:
    """Numbers acceptances and counts references; keeps the content of the last `KEPT_MAX`."""

    def __init__(self) -> None:
        self._kept: deque[Acceptance] = deque(maxlen=KEPT_MAX)
        self._counts: dict[PostName, Counter[str]] = {name: Counter() for name in PostName}
        self._last = 0

    def next_number(self) -> int:
        """Number an acceptance; numbers are not used again after a reset."""
        self._last += 1
        return self._last

    def enter(self, acceptance: Acceptance) -> None:
        """Enter one."""
        self._kept.append(acceptance)
        self._counts[acceptance.provider][acceptance.reference] += 1

    def reset(self) -> None:
        """Forget them."""
        self._kept.clear()
        for counts in self._counts.values():
            counts.clear()

    def find(self, number: int) -> Acceptance | None:
        """Look one up by its number."""
        return next((each for each in self._kept if each.number == number), None)

    def of(self, provider: PostName | None = None) -> list[Acceptance]:
        """List those that are kept, the oldest first."""
        return [each for each in self._kept if provider in (None, each.provider)]

    def counts(self) -> Mapping[PostName, int]:
        """Say how many were taken, by provider."""
        return {name: counts.total() for name, counts in self._counts.items()}

    def duplicates(self) -> Mapping[PostName, Mapping[str, int]]:
        """List the references that came more than once."""
        return {
            name: {reference: count for reference, count in counts.items() if count > 1}
            for name, counts in self._counts.items()
        }
