"""Judges a history against the invariants of spec/message.md.

It sees every transaction in the order of the commits, and every handler call; it never looks into the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conveyor.model.ids import MessageId
from conveyor.model.job import JobState
from conveyor.model.message import Draft, Lease, Peeked, Sent
from conveyor.sim.claims import Claims
from conveyor.sim.ends import Ends
from conveyor.sim.loop import SimProcess
from conveyor.store.jobs import JobFound
from conveyor.store.records import Fired, Firing


class Judge(Claims, Ends):
    """The witness of one world."""

    # Every transaction

    def saw(
        self, process: SimProcess, verb: str, arguments: tuple[Any, ...], parts: dict[str, Any], answer: object
    ) -> None:
        look = getattr(self, f"_saw_{verb.replace('.', '_')}", None)
        if isinstance(answer, Exception):
            self.note(process.name, f"{verb} !{type(answer).__name__}")
        elif look is not None and (said := look(process, answer, *arguments, **parts)) is not None:
            self.note(process.name, f"{verb} {said}")

    # T9 to T12, C1

    def _saw_pause(self, _: SimProcess, __: object, queue: str) -> str:
        self.shelves[queue].paused_at = self._clock.now_ms()
        return queue

    def _saw_resume(self, _: SimProcess, __: object, queue: str) -> str:
        self.shelves[queue].paused_at = None
        return queue

    def _saw_purge(self, _: SimProcess, __: int, queue: str) -> str:
        gone = self.live(queue)
        for card in gone:
            card.end, card.owner = "purged", None
        for key in [key for key in self._uniques if key[0] == queue]:
            del self._uniques[key]
        return f"{queue}: {len(gone)}"

    def _saw_redrive(self, _: SimProcess, moved: int, queue: str, **_parts: object) -> str:
        letters = [card for card in self.live(queue) if card.origin is not None]
        self.check(moved >= len(letters) or moved == 1_000, f"T12: {moved} of {len(letters)} dead letters went back")
        for card in letters:
            assert card.origin is not None
            card.start_anew(card.origin, self._clock.now_ms(), max_retries=card.retries_at_death)
            card.is_redriven, card.origin = True, None
        return f"{queue}: {len(letters)}"

    def _saw_fire(self, _: SimProcess, fired: Fired, firing: Firing) -> str:
        tick = firing.schedule, firing.tick
        if fired in (Fired.SENT, Fired.SKIPPED, Fired.MISSED):
            self.check(tick not in self._ticks, f"I10: {tick} fired twice")
            self._ticks.add(tick)
        if fired is Fired.SENT:
            self._add(firing.message, self._clock.now_ms() + (firing.message.delay_ms or 0))
        return f"{tick} {fired}"

    # Jobs

    def _saw_jobs_cancel(self, _: SimProcess, found: JobFound | None, id: MessageId) -> str | None:
        card = self.cards.get(id)
        if card is None or card.end is not None or card.origin is not None:
            return None
        if card.owner is None:
            card.end = "cancelled"
            said = None if found is None else found.state(self._clock.now_ms())
            self.check(said is JobState.CANCELLED, f"jobs: {self.name(card)} waits, is cancelled, and is {said}")
        else:
            card.wish = True
        return f"{self.name(card)} {card.end or 'is to end'}"

    def _saw_jobs_replace(self, _: SimProcess, sent: Sent, draft: Draft) -> str:
        assert draft.dedupe is not None
        known = self._uniques.pop((draft.queue, draft.dedupe), None)
        if known is not None and known.is_held and known.card is not None and known.card.owner is None:
            known.card.end = "cancelled"
        self.check(not sent.deduped, "jobs: a replacement was deduped")
        return self._sent(draft, sent)

    # Handlers

    def call_began(self, owner: int, leases: Sequence[Lease], who: str, *, in_child: bool) -> None:
        """A handler call begins."""
        queue = leases[0].queue
        self.note(who, f"begins {' '.join(f'{self.name(self.cards[each.id])}/{each.claim}' for each in leases)}")
        for lease in leases:
            card = self.cards[lease.id]
            name = lease.id, lease.claim, owner
            self.check(name not in self.began, f"I2: {self.name(card)} runs twice on one lease")
            self.began.add(name)
            if owner in self.owners and card.end is None:
                self.check(card.owner == owner, f"I2: {self.name(card)} is run by {owner}, leased by {card.owner}")
            self.check(in_child or not lease.crash_suspect, f"T5: the suspect {self.name(card)} runs beside others")
        if owner in self.owners:
            calls = self.running.setdefault(queue, {})
            calls[owner] = calls.get(owner, 0) + 1
            limit = self.shelves[queue].limit
            self.check(limit is None or sum(calls.values()) <= limit, f"I8: {calls} calls of {queue}, at most {limit}")

    def call_ended(self, owner: int, leases: Sequence[Lease], who: str, word: str) -> None:
        """A handler call is over, and said this."""
        for lease in leases:
            self.ended[lease.id, lease.claim, owner] = word
        self.note(who, f"ends {self.name(self.cards[leases[0].id])}: {word}")
        calls = self.running.get(leases[0].queue, {})
        if owner in calls:
            calls[owner] -= 1

    # The end

    @property
    def queues(self) -> list[str]:
        return sorted(self.shelves)

    def found(self, places: Mapping[str, Sequence[Peeked]]) -> None:
        """T10 happens unseen, in a claim: who is past its end and not where it was has expired."""
        here = {(queue, message.id) for queue, messages in places.items() for message in messages}
        now = self._clock.now_ms()
        for card in self.cards.values():
            if card.end is None and card.is_past(now) and (card.queue, card.id) not in here:
                self._bury(card, "expired")

    def audit(self, found: Mapping[str, Sequence[Peeked]]) -> None:
        """I1 and I6: what lies where, against what should."""
        self.found(found)
        places = {message.id: (queue, message) for queue, messages in found.items() for message in messages}
        self.check(len(places) == sum(map(len, found.values())), "I1: a message in two places")
        for card in self.cards.values():
            queue, message = places.pop(card.id, (None, None))
            wanted = None if card.end is not None else card.queue
            self.check(queue == wanted, f"I1: {self.name(card)} ({card.end}) is in {queue}, should be in {wanted}")
            if message is not None:
                self.check(message.body == card.draft.body, f"I12: {self.name(card)} has another body")
                self.check((message.dead is not None) is (card.origin is not None), f"I6: {self.name(card)}")
        self.check(not places, f"I1: {len(places)} messages from nowhere")
