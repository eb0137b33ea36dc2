"""T1 and T2 judged: what was sent, and what may be claimed of it."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.model.message import Draft, Lease, Sent
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.sim.cards import Card, Shelf, Unique
from conveyor.sim.loop import SimProcess
from conveyor.sim.record import Record
from conveyor.store.records import Claimed, ClaimRequest


class Claims(Record):
    """The way in, and out to the workers."""

    def _saw_create_queue(self, _: SimProcess, __: object, name: str, settings: QueueSettings) -> str:
        self.shelves[name] = Shelf(name=name, settings=settings)
        return name

    def _saw_declare_consumer(self, _: SimProcess, __: object, queue: str, settings: ConsumerSettings) -> str:
        for name in (queue, settings.dead_letter_queue):
            if name is not None and name not in self.shelves:
                self.shelves[name] = Shelf(name=name, settings=QueueSettings())
        self.shelves[queue].consumer = settings
        return queue

    def _saw_append(self, _: SimProcess, answer: list[Sent], drafts: Sequence[Draft]) -> str:
        said = [self._sent(draft, sent) for draft, sent in zip(drafts, answer, strict=True)]
        return " ".join(said)

    def _sent(self, draft: Draft, sent: Sent) -> str:
        now, shelf = self._clock.now_ms(), self.shelves[draft.queue]
        known = None if draft.dedupe is None else self._uniques.get((draft.queue, draft.dedupe))
        is_live = known is not None and (known.is_held or now < known.until)
        if sent.deduped:
            self.check(is_live and known is not None and known.id == sent.id, "I11: deduped without a live key")
            return "deduped"
        is_sure = known is None or known.card is None or not known.card.is_past(now)
        self.check(not is_live or not is_sure, f"I11: a second message of the live key {draft.dedupe}")
        card = self._add(draft, now + (shelf.settings.delivery_delay_ms if draft.delay_ms is None else draft.delay_ms))
        if draft.dedupe is not None:
            until = now + shelf.settings.dedupe_window_ms
            self._uniques[draft.queue, draft.dedupe] = Unique(card, card.id, until)
        return self.name(card)

    def _add(self, draft: Draft, ready_at: int) -> Card:
        now = self._clock.now_ms()
        self.check(draft.id not in self.cards, "I1: an id was sent twice")
        card = self.cards[draft.id] = Card(
            id=draft.id, number=len(self.cards) + 1, queue=draft.queue, draft=draft, ready_at=ready_at,
            first_ready_at=ready_at, max_retries=draft.max_retries,
            expires_at=None if draft.expires_in_ms is None else now + draft.expires_in_ms,
        )  # fmt: skip
        return card

    # T2

    def _saw_claim(self, _: SimProcess, claimed: Claimed, request: ClaimRequest) -> str | None:
        if not claimed.leases:
            self._judge_leftover(request, claimed, [])
            return None
        now, shelf = self._clock.now_ms(), self.shelves[request.queue]
        self.check(shelf.paused_at is None, f"T11: a claim on {shelf.name}, which is paused")
        self.check(shelf.throttled_until <= now, f"a claim on {shelf.name}, which rests")
        self.check(request.owner in self.owners, "T5: a claim by an owner that was reaped")
        taken = [self._leased(request, lease, now) for lease in claimed.leases]
        self._judge_leftover(request, claimed, taken)
        self._hold_slots(shelf, request, claimed)
        return f"owner {request.owner}: " + " ".join(f"{self.name(card)}/{card.claims}" for card in taken)

    def _leased(self, request: ClaimRequest, lease: Lease, now: int) -> Card:
        card = self.cards[lease.id]
        name = self.name(card)
        self.check(card.end is None, f"I5: {name} claimed after its end ({card.end})")
        self.check(card.owner is None, f"I2: {name} is leased by {card.owner}, and now by {request.owner}")
        self.check(card.queue == lease.queue == request.queue, f"I1: {name} claimed from {lease.queue}")
        self.check(lease.claim == card.claims + 1, f"I3: {name}: claim {lease.claim} after {card.claims}")
        self.check(lease.releases == card.releases, f"I4: {name} has {card.releases} releases, not {lease.releases}")
        self.check(card.ready_at <= now, f"I7: {name} claimed {card.ready_at - now} ms too early")
        self.check(lease.body == card.draft.body, f"I12: {name} has another body")
        self.check(lease.crash_suspect == card.suspect == request.suspects, f"T5: {name}: suspects run alone")
        self.check(not card.is_past(now), f"T10: {name} is delivered after its end")
        self._judge_key(card, now)
        card.claims, card.owner = lease.claim, request.owner
        self.check(not self._is_beyond(card), f"I4: {name} has attempt {card.attempts}")
        self._by_seq[lease.seq] = card
        return card

    def _is_beyond(self, card: Card) -> bool:
        most = self.shelves[card.queue].max_retries if card.max_retries is None else card.max_retries
        return card.attempts > most + 1

    def _judge_key(self, card: Card, now: int) -> None:
        consumer = self.shelves[card.queue].consumer
        if card.draft.key is None or consumer is None or not consumer.gates_keys:
            return
        same = [each for each in self.live(card.queue) if each.draft.key == card.draft.key and each is not card]
        leased = sum(each.owner is not None for each in same)
        has_room = consumer.key_limit is None or leased < consumer.key_limit
        self.check(has_room, f"I8: {self.name(card)}: its key has {leased} leases")
        if consumer.ordered and not card.is_redriven:
            before = [e for e in same if e.number < card.number and not e.is_redriven and not e.is_past(now)]
            self.check(not before, f"I9: {self.name(card)} before {[self.name(each) for each in before]}")

    def _judge_leftover(self, request: ClaimRequest, claimed: Claimed, taken: list[Card]) -> None:
        """On a plain queue: the first in order, and all that were asked for."""
        shelf, now = self.shelves[request.queue], self._clock.now_ms()
        is_plain = shelf.limit is None and request.batch_size == 1 and shelf.consumer is not None
        if not is_plain or shelf.consumer is None or shelf.consumer.gates_keys or request.owner not in self.owners:
            return
        if shelf.paused_at is not None or shelf.throttled_until > now:
            return
        left = [
            card for card in self.live(request.queue)
            if card.owner is None and card.ready_at <= now and card.suspect == request.suspects
            and not card.is_past(now) and not card.is_redriven
        ]  # fmt: skip
        if not left:
            return
        self.check(len(taken) >= request.limit, f"T2: {self.name(left[0])} is ready and was left")
        first = min(card.place for card in left)
        late = [card for card in taken if card.place > first and not card.is_redriven]
        self.check(not late, "T2: not in the order of priority, time and sending")

    def _hold_slots(self, shelf: Shelf, request: ClaimRequest, claimed: Claimed) -> None:
        if shelf.limit is None:
            return
        calls = -(-len(claimed.leases) // request.batch_size)
        self.check(claimed.calls == calls, f"I8: {claimed.calls} slots for {calls} calls")
        shelf.held[request.owner] = shelf.held.get(request.owner, 0) + claimed.calls
        self.check(sum(shelf.held.values()) <= shelf.limit, f"I8: {shelf.held} slots of {shelf.limit}")
