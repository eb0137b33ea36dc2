"""The invariants I1 to I12, judged from what a client of the store saw, without a look at the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from conveyor.model.dispatch import ALARM_MS, Dispatch, ticks_of
from conveyor.model.ids import MessageId
from conveyor.model.message import Draft, Lease, Peeked, Sent
from conveyor.model.settings import ConsumerSettings
from conveyor.store.records import PULL_OWNER, Claimed, ClaimRequest


class Ledger:
    """What was promised so far; told before and after each step."""

    def __init__(self) -> None:
        self.places: dict[MessageId, Peeked] = {}
        self.drafts: dict[MessageId, Draft] = {}
        self.acked: set[MessageId] = set()
        self.claims: Counter[MessageId] = Counter()
        self._claims_before: Counter[MessageId] = Counter()
        self.held: Counter[tuple[str, int]] = Counter()
        self.ticks: set[tuple[str, int]] = set()
        self.redriven: set[MessageId] = set()
        self.deaths = 0
        self._leased: dict[str, list[tuple[int, str | None, int]]] = {}
        self._new: set[MessageId] = set()
        self._removed: set[MessageId] = set()

    def sent(self, drafts: Iterable[Draft], answers: Iterable[Sent]) -> None:
        for draft, answer in zip(drafts, answers, strict=True):
            if not answer.deduped:
                assert answer.id == draft.id
                self.drafts[draft.id] = draft
                self._new.add(draft.id)

    def removed(self, ids: Iterable[MessageId]) -> None:
        """Purged, deleted with their queue, or acked."""
        self._removed.update(ids)

    def done(self, id: MessageId, claim: int) -> None:
        """An ack that was not refused."""
        assert id not in self.places or claim > self._claims_before[id], "I2: acked by a lease from before its death"
        self.acked.add(id)
        self.removed([id])

    def claimed(self, request: ClaimRequest, claimed: Claimed, consumer: ConsumerSettings | None, now: int) -> None:
        for lease in claimed.leases:
            self._judge_lease(lease, now)
        assert len({lease.seq for lease in claimed.leases}) == len(claimed.leases), "I2: two leases of one message"
        self._judge_keys(request.queue, claimed.leases, consumer)
        self._judge_slots(request, claimed, consumer)
        self._judge_rates(request.queue, claimed.leases, consumer, now)
        if consumer is not None and request.owner != PULL_OWNER:
            self._judge_mode(request.queue, claimed.leases, consumer, now)

    def _judge_mode(self, queue: str, leases: list[Lease], consumer: ConsumerSettings, now: int) -> None:
        """By alarm one is out at a time, a second after it was ready; by clock only what was ready at the tick goes."""
        if consumer.dispatch is Dispatch.ALARM and leases:
            out = sum(place.leased for place in self.places.values() if place.queue == queue)
            assert (len(leases), out) == (1, 0), "two at a time"
            assert self.places[leases[0].id].ready_at <= now - ALARM_MS, "before its alarm"
        if consumer.dispatch is Dispatch.CRON:
            tick = ticks_of(consumer.dispatch_cron).last_at_or_before(now)
            assert tick is not None
            assert all((self.places[each.id].ready_at if each.id in self.places else now) <= tick for each in leases)
            assert len(leases) <= consumer.dispatch_messages, "more than go at a tick"

    def _judge_lease(self, lease: Lease, now: int) -> None:
        before = self.places.get(lease.id)  # None: sent by the same transaction
        assert lease.id not in self.acked, "I5: claimed after its ack"
        assert before is not None or lease.id in self._new
        assert before is None or not before.leased, "I2: claimed while somebody holds it"
        assert before is None or before.ready_at <= now, "I7: claimed before its moment"
        assert lease.claim == self.claims[lease.id] + 1, "I3: claims grow by one"
        assert lease.body == self.drafts[lease.id].body, "I12: another body"
        self.claims[lease.id] = lease.claim

    def _judge_keys(self, queue: str, leases: list[Lease], consumer: ConsumerSettings | None) -> None:
        if consumer is None or not consumer.gates_keys:
            return
        keyed = [place for place in self.places.values() if place.queue == queue and place.key is not None]
        for lease in leases:
            if lease.key is None:
                continue
            same = [place for place in keyed if place.key == lease.key]
            if consumer.ordered:
                first = min((place.seq for place in same), default=lease.seq)
                assert lease.seq == first, "I9: claimed before an earlier one of its key"
            taken = sum(other.key == lease.key for other in leases)
            out = taken + sum(place.leased for place in same)
            assert consumer.key_limit is None or out <= consumer.key_limit or taken == 0, "I8: per key"

    def _judge_rates(self, queue: str, leases: list[Lease], consumer: ConsumerSettings | None, now: int) -> None:
        """Of what was leased since the consumer was last changed: never more within any period than its rate."""
        if consumer is None or not leases:
            return
        self._leased.setdefault(queue, []).extend((now, lease.key, self.drafts[lease.id].cost) for lease in leases)
        keys = {lease.key for lease in leases} - {None}
        for rate, group in [(consumer.rate, None), *((consumer.key_rate, key) for key in keys)]:
            if rate is not None:
                spent = [
                    cost for moment, key, cost in self._leased[queue]
                    if moment > now - rate.period_ms and group in (None, key)
                ]  # fmt: skip
                assert sum(spent) <= rate.count or len(spent) == 1, "more than the rate within its period"

    def rates_change(self, queue: str) -> None:
        """From here on another rate may hold, and what went before counts for nothing."""
        self._leased.pop(queue, None)

    def _judge_slots(self, request: ClaimRequest, claimed: Claimed, consumer: ConsumerSettings | None) -> None:
        limit = None if consumer is None else consumer.calls_max
        if limit is None or request.owner == PULL_OWNER or not claimed.leases:
            return
        self.held[request.queue, request.owner] += claimed.calls
        assert claimed.calls * request.batch_size >= len(claimed.leases), "I8: more messages than calls"
        running = sum(calls for (queue, _), calls in self.held.items() if queue == request.queue)
        assert running <= limit, "I8: more calls than slots"

    def ended(self, queue: str, owner: int, calls: int) -> None:
        self.held[queue, owner] = max(0, self.held[queue, owner] - calls)

    def stated(self, queue: str, owner: int, calls: int) -> None:
        self.held[queue, owner] = calls

    def owner_gone(self, owner: int) -> None:
        for queue, holder in list(self.held):
            if holder == owner:
                del self.held[queue, holder]

    def fired(self, schedule: str, tick: int) -> None:
        assert (schedule, tick) not in self.ticks, "I10: a tick fired twice"
        self.ticks.add((schedule, tick))

    def step(self, seen: list[Peeked], letterboxes: Mapping[str, str | None]) -> None:
        """What is visible after a step, and where each queue's dead go."""
        after = {place.id: place for place in seen}
        assert len(after) == len(seen), "I1: a message in two places"
        assert after.keys() - self.places.keys() == self._new, (
            "I1: a confirmed send is missing, or one came from nowhere"
        )
        for id in self.places.keys() - after.keys() - self._removed:
            assert letterboxes.get(self.places[id].queue) is None, "I6: lost instead of dead-lettered"
            self._died(self.places[id])
        for id in self.places.keys() & after.keys():
            self._judge_move(self.places[id], after[id], letterboxes)
        self.places = after
        self._judge_dedupe()
        self._new, self._removed = set(), set()

    def _judge_move(self, before: Peeked, after: Peeked, letterboxes: Mapping[str, str | None]) -> None:
        assert after.body == self.drafts[after.id].body, "I12: another body"
        assert (after.seq, after.sent_at) == (before.seq, before.sent_at)
        if before.queue == after.queue:
            return
        self._claims_before[after.id] = self.claims[after.id]
        assert after.attempts == 0 and not after.leased
        if after.dead is None:
            self.redriven.add(after.id)
            assert before.dead is not None and before.dead.origin_queue == after.queue
        else:
            assert letterboxes[before.queue] == after.queue and after.dead.origin_queue == before.queue
            self._died(before)

    def _died(self, message: Peeked) -> None:
        self.deaths += message.queue == "a"

    def _judge_dedupe(self) -> None:
        """I11, but for messages that came back without their key."""
        live = Counter(
            (draft.queue, draft.dedupe)
            for id, place in self.places.items()
            if (draft := self.drafts[id]).dedupe is not None and place.queue == draft.queue and id not in self.redriven
        )
        assert all(count == 1 for count in live.values()), "I11: two messages of one live key"
