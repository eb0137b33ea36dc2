"""T3 to T8 judged: verdicts, and what becomes of the leases of an owner that ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from conveyor.model.verdict import Action, DeadReason, Settlement
from conveyor.sim import cards
from conveyor.sim.cards import Card, Shelf
from conveyor.sim.loop import Life, SimProcess
from conveyor.sim.record import Record
from conveyor.store.records import OWNER_LEASE_MS, Ending, Evidence, Reaped, Settled, Swept


class Ends(Record):
    """Every end of a lease."""

    # T3, T4, T6, T8

    def _saw_settle(
        self, _: SimProcess, settled: Settled, owner: int, settlements: Sequence[Settlement], *,
        ended: Mapping[str, int] | None = None,
    ) -> str:  # fmt: skip
        lost, dead = set(settled.lost), set(settled.dead)
        told = [self._settled(owner, said, lost=said.seq in lost, dead=said.seq in dead) for said in settlements]
        for queue, calls in (ended or {}).items():
            self._give_back(self.shelves[queue], owner, calls)
        return f"owner {owner}: {' '.join(told)} {dict(ended or {})}"

    def answered(self, verb: str, arguments: tuple[Any, ...], answer: Any) -> None:
        """The caller knows what came of it."""
        if verb == "settle":
            owner, settlements = arguments
            self._answered.update((owner, each.seq, each.claim) for each in settlements)
        elif verb == "claim":
            (request,) = arguments
            self._delivered.update((lease.id, lease.claim, request.owner) for lease in answer.leases)
        elif verb == "register_owner":
            self._adopted.add(answer)

    def _settled(self, owner: int, said: Settlement, *, lost: bool, dead: bool) -> str:
        card = self._by_seq[said.seq]
        text = f"{self.name(card)}/{said.claim} {said.action.name}"
        self.check((owner, said.seq, said.claim) not in self._answered, f"T3: {text} settled twice")
        if card.end is not None:
            self.check(not lost and not dead, f"T3: {text} after its end")
            return text + " gone"
        is_current = card.owner == owner and card.claims == said.claim
        if not is_current and card.is_past(self._clock.now_ms()):
            return text + " late"  # it may have expired since, unseen
        self.check(lost is not is_current, f"T3: {text} by {owner}, leased by {card.owner}/{card.claims}, lost={lost}")
        if not is_current:
            return text + " lost"
        self._judge_word(card, owner, said)
        reason = cards.apply_settlement(card, self.shelves[card.queue], said, self._clock.now_ms())
        self.check(dead is (reason is not None), f"I6: {text}, attempt {card.attempts}: dead={dead}, reason {reason}")
        if reason is not None:
            self._bury(card, reason)
        elif card.end is not None:
            self._let_go(card)
        return text

    def _judge_word(self, card: Card, owner: int, said: Settlement) -> None:
        """That it is what the handler said."""
        if card.queue in self.unheard:
            return
        lease = card.id, said.claim, owner
        word = self.ended.get(lease)
        if said.action is Action.ACK:
            self.check(word == "ok", f"{self.name(card)} acked, but its handler said {word}")
        elif said.action is Action.RELEASE and said.delay_ms is None:
            self.check(word != "ok", f"{self.name(card)} given back, but its handler is done")
        elif said.action is Action.RETRY and word == "cut":
            self.check(said.reason == DeadReason.TIMEOUT, f"T8: {self.name(card)} was cut short, and it counts")
        elif said.action is not Action.RELEASE:
            self.check(lease in self.began, f"{self.name(card)}: {said.action.name}, but no handler began")

    def _give_back(self, shelf: Shelf, owner: int, calls: int) -> None:
        held = shelf.held.get(owner)
        if held is None:
            return
        self.check(held >= calls, f"I8: {calls} slots back, {held} held")
        shelf.held[owner] = max(0, held - calls)

    # What an owner knows to hold

    def _saw_reconcile(
        self, _: SimProcess, returned: int, owner: int, queue: str, held: Collection[tuple[int, int]], *, calls: int
    ) -> str | None:
        if owner not in self.owners:
            self.check(not returned, f"T5: {returned} leases of owner {owner}, which is gone, are released")
            return None
        known = {(self._by_seq[seq].id, claim) for seq, claim in held}
        mine = [card for card in self.live(queue) if card.owner == owner]
        orphans = [card for card in mine if (card.id, card.claims) not in known]
        for card in orphans:
            is_known = (card.id, card.claims, owner) in self._delivered
            self.check(not is_known, f"T8: {self.name(card)} is held by owner {owner}, and taken away")
            card.put_back(releases=1)
        self.check(returned == len(orphans), f"T8: {returned} orphans of owner {owner}, not {len(orphans)}")
        self._state_slots(self.shelves[queue], owner, calls)
        names = " ".join(self.name(card) for card in orphans)
        return f"owner {owner}: {len(mine)} leases, {calls} slots; orphans: {names}"

    def _state_slots(self, shelf: Shelf, owner: int, calls: int) -> None:
        running = self.running.get(shelf.name, {}).get(owner, 0)
        if shelf.limit is not None:
            self.check(calls >= running, f"I8: owner {owner} runs {running} calls and says {calls}")
        shelf.held[owner] = calls

    # T5

    def _saw_register_owner(self, process: SimProcess, owner: int, _info: object) -> str:
        self.owners[owner] = self._clock.now_ms() + OWNER_LEASE_MS, process
        return f"owner {owner}"

    def _saw_renew_owners(self, process: SimProcess, gone: list[int], owners: Sequence[int]) -> str | None:
        for owner in owners:
            self.check((owner in gone) is (owner not in self.owners), f"T5: owner {owner} is renewed, or is not")
            if owner in self.owners:
                self.owners[owner] = self._clock.now_ms() + OWNER_LEASE_MS, process
        return f"{list(owners)}, gone {gone}"

    def _saw_reap_owner(self, _: SimProcess, reaped: Reaped, owner: int, evidence: Evidence) -> str:
        if self.owners.pop(owner, None) is None:
            return f"owner {owner}: gone already"
        held = self._held_by(owner)
        expected: dict[str, list[int]] = {"released": [], "suspects": [], "failed": [], "dead": []}
        seqs = {card.id: seq for seq, card in self._by_seq.items()}
        running = sum(seqs[card.id] in evidence.started for card in held)
        for card in held:
            if evidence.ending is Ending.CRASHED and (card.id, card.claims, owner) in self.began:
                self.check(seqs[card.id] in evidence.started, f"T5: nobody knew that {self.name(card)} had begun")
            expected[self._reaped(card, seqs[card.id], evidence, running)].append(seqs[card.id])
        for kind, wanted in expected.items():
            found = sorted(getattr(reaped, kind))
            self.check(found == sorted(wanted), f"T5: {kind} of owner {owner}: {found}, not {sorted(wanted)}")
        return f"owner {owner} {evidence.ending}: {expected}"

    def _reaped(self, card: Card, seq: int, evidence: Evidence, running: int) -> str:
        shelf, reason = self.shelves[card.queue], None
        if evidence.ending is Ending.LOST:
            reason = cards.fail(card, shelf, "lost")
        elif evidence.ending is Ending.TIMED_OUT and seq == evidence.culprit:
            card.suspect = False
            reason = cards.fail(card, shelf, "timeout", ready_at=self._clock.now_ms())
        elif evidence.ending is Ending.CRASHED and seq in evidence.started and running > 1:
            card.suspect = True
            card.put_back(releases=1)
            return "suspects"
        elif evidence.ending is Ending.CRASHED and seq in evidence.started:
            reason = cards.crash(card, shelf)
        else:
            card.put_back(releases=1)
            return "released"
        if reason is None:
            return "failed"
        self._bury(card, reason)
        return "dead"

    def _saw_sweep(self, _: SimProcess, swept: Swept) -> str | None:
        now = self._clock.now_ms()
        over = [owner for owner, (until, _) in self.owners.items() if until <= now]
        self.check(swept.owners == len(over), f"T5: {swept.owners} owners swept, {over} are over")
        for owner in over:
            keeper = self.owners.pop(owner)[1]
            calm_s = self._clock.monotonic() - keeper.troubled_at
            is_well = owner in self._adopted and keeper.life is Life.RUNNING and calm_s * 1000 > OWNER_LEASE_MS * 4 / 3
            self.check(not is_well, f"T5: owner {owner} lost its lease, though {keeper.name} was well")
            for card in self._held_by(owner):
                if (reason := cards.fail(card, self.shelves[card.queue], "lost")) is not None:
                    self._bury(card, reason)
        return f"lost owners {over}" if over else None
