"""What the judge keeps of each message, queue and owner: the specification's own arithmetic, shared with no store."""

from __future__ import annotations

from dataclasses import dataclass, field

from conveyor.model.ids import MessageId
from conveyor.model.message import CRASH_BUDGET, Draft
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, Settlement


@dataclass(slots=True, kw_only=True)
class Card:
    """One message, from its send to its end."""

    id: MessageId
    number: int
    """In the order of sending."""
    queue: str
    draft: Draft
    ready_at: int
    first_ready_at: int
    expires_at: int | None
    max_retries: int | None
    retries_at_death: int | None = None
    """Its own `max_retries` where it died, for when it goes back there."""
    claims: int = 0
    releases: int = 0
    crashes: int = 0
    suspect: bool = False
    owner: int | None = None
    end: str | None = None
    """Why it is final."""
    origin: str | None = None
    """The queue in which it died."""
    is_redriven: bool = False
    wish: bool = False
    """It carries a job that somebody wants to end, and that ran when it was said."""
    had_crash: bool = False

    @property
    def attempts(self) -> int:
        return self.claims - self.releases

    @property
    def place(self) -> tuple[int, int, int]:
        return (-self.draft.priority, self.ready_at, self.number)

    def is_past(self, now: int) -> bool:
        """It may have expired, which nobody sees at once."""
        return self.expires_at is not None and self.expires_at <= now

    def put_back(self, *, ready_at: int | None = None, releases: int = 0) -> None:
        self.owner = None
        if self.wish:  # instead of being tried again
            self.end = "cancelled"
            return
        self.releases += releases
        if ready_at is not None:
            self.ready_at = ready_at

    def start_anew(self, queue: str, now: int, *, max_retries: int | None = None) -> None:
        """T6 and T12. Attempts begin anew; claims go on, so that no two leases of a message have one name."""
        self.queue, self.owner, self.ready_at, self.first_ready_at = queue, None, now, now
        self.releases, self.crashes = self.claims, 0
        self.suspect = False
        self.expires_at = None
        self.retries_at_death, self.max_retries = self.max_retries, max_retries


@dataclass(slots=True, kw_only=True)
class Shelf:
    """One queue."""

    name: str
    settings: QueueSettings
    consumer: ConsumerSettings | None = None
    paused_at: int | None = None
    throttled_until: int = 0
    held: dict[int, int] = field(default_factory=dict)
    """Slots of `max_concurrency`, by owner."""

    @property
    def max_retries(self) -> int:
        return 3 if self.consumer is None else self.consumer.max_retries

    @property
    def limit(self) -> int | None:
        return None if self.consumer is None else self.consumer.max_concurrency


@dataclass(slots=True)
class Unique:
    """A dedupe key."""

    card: Card | None
    id: MessageId
    until: int

    @property
    def is_held(self) -> bool:
        """Its message is not final."""
        return self.card is not None and self.card.end is None


def is_spent(card: Card, shelf: Shelf) -> bool:
    """T4's guard."""
    return card.attempts > (shelf.max_retries if card.max_retries is None else card.max_retries)


def apply_settlement(card: Card, shelf: Shelf, said: Settlement, now: int) -> str | None:
    """A verdict on a current lease; why the message is dead of it, if it is."""
    match said.action:
        case Action.ACK:
            card.owner, card.end = None, "done"
            return None
        case Action.RETRY:
            card.suspect = False
            return fail(card, shelf, "retries", ready_at=now + (said.delay_ms or 0))
        case Action.CRASH:
            return crash(card, shelf)
        case Action.REJECT:
            return "rejected"
        case Action.RELEASE:
            if said.delay_ms is not None:
                card.suspect = False
                card.ready_at = now + said.delay_ms
                if said.throttles:
                    shelf.throttled_until = max(shelf.throttled_until, card.ready_at)
            card.put_back(releases=1)
            return None


def fail(card: Card, shelf: Shelf, reason: str, *, ready_at: int | None = None) -> str | None:
    """A failed attempt."""
    if is_spent(card, shelf):
        return reason
    card.put_back(ready_at=ready_at)
    return None


def crash(card: Card, shelf: Shelf) -> str | None:
    """It ran alone, and its process died."""
    card.crashes += 1
    card.suspect = True
    return "crashes" if card.crashes >= CRASH_BUDGET else fail(card, shelf, "retries")
