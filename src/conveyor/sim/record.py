"""What the judge has seen so far, its trace, and the steps that several of its parts take."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

from conveyor.model.clock import Clock
from conveyor.model.ids import MessageId
from conveyor.sim.cards import Card, Shelf, Unique
from conveyor.sim.loop import SimProcess

Named: TypeAlias = tuple[MessageId, int, int]
"""A lease: its message, claim and owner. The numbers of claims begin anew with a redrive."""


class Record:
    """A history, as far as it has come."""

    def __init__(self, clock: Clock, *, traces: Callable[[str], object] | None, on_fail: Callable[[], object]) -> None:
        self._clock = clock
        self._traces = traces
        self._on_fail = on_fail
        self._hash = hashlib.sha256()
        self.violations: list[str] = []
        self.events = 0
        self.cards: dict[MessageId, Card] = {}
        self.shelves: dict[str, Shelf] = {}
        self.owners: dict[int, tuple[int, SimProcess]] = {}
        """When the lease of each ends, and who renews it."""
        self.began: set[Named] = set()
        """Leases whose handlers began."""
        self.ended: dict[Named, str] = {}
        """What they said."""
        self.running: dict[str, dict[int, int]] = {}
        """Handler calls under way, by queue and owner."""
        self._uniques: dict[tuple[str, str], Unique] = {}
        self._by_seq: dict[int, Card] = {}
        self._answered: set[tuple[int, int, int]] = set()
        self._delivered: set[Named] = set()
        """Leases of which their owner knows."""
        self._adopted: set[int] = set()
        """Owners of which their supervisor knows."""
        self._ticks: set[tuple[str, int]] = set()
        self.unheard: set[str] = set()
        """Queues whose handlers do not say when they begin and end."""

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:16]

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        line = f"{self._clock.monotonic():11.6f} {who:<10} {what}"
        self.events += 1
        self._hash.update(line.encode())
        if self._traces is not None:
            self._traces(line)

    def fail(self, text: str) -> None:
        self.violations.append(f"at {self._clock.monotonic():.3f} s: {text}")
        self.note("JUDGE", text)
        self._on_fail()

    def check(self, holds: object, text: str) -> None:
        if not holds:
            self.fail(text)

    def name(self, card: Card) -> str:
        return f"#{card.number} of {card.queue}"

    def live(self, queue: str) -> list[Card]:
        """What is not final in a queue."""
        return [card for card in self.cards.values() if card.end is None and card.queue == queue]

    def _bury(self, card: Card, reason: str) -> None:
        consumer = self.shelves[card.queue].consumer
        self._let_go(card)
        if card.wish:
            card.end, card.owner = "cancelled", None
            return
        if consumer is None or consumer.dead_letter_queue is None:
            card.end, card.owner = f"dropped: {reason}", None
            return
        card.origin = card.queue
        card.start_anew(consumer.dead_letter_queue, self._clock.now_ms())

    def _let_go(self, card: Card) -> None:
        unique = None if card.draft.dedupe is None else self._uniques.get((card.draft.queue, card.draft.dedupe))
        if unique is not None and unique.card is card:
            unique.card = None

    def _held_by(self, owner: int) -> list[Card]:
        for shelf in self.shelves.values():
            shelf.held.pop(owner, None)
        for calls in self.running.values():
            calls.pop(owner, None)
        return [card for card in self.cards.values() if card.owner == owner and card.end is None]
