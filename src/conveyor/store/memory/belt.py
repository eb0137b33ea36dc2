"""The belt in memory: T1 to T8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import assert_never

from conveyor.model.batching import cut_batches, round_to_batches
from conveyor.model.dispatch import Dispatch
from conveyor.model.errors import LeaseLostError, QueueFullError
from conveyor.model.ids import show_id
from conveyor.model.job import RECORD_MS
from conveyor.model.message import Draft, Peeked, Sent
from conveyor.model.verdict import Action, DeadReason, Settlement
from conveyor.store.admission import Admission, admit_all, admit_at_tick, admit_by_alarm
from conveyor.store.groups import end_of
from conveyor.store.memory.limits import Limits
from conveyor.store.memory.rows import Dedupe, Message, Queue
from conveyor.store.records import PULL_OWNER, Claimed, ClaimRequest, Settled


class Belt(Limits):
    """`MessageStore`."""

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        return self._append(drafts)

    def _append(self, drafts: Sequence[Draft]) -> list[Sent]:
        for draft in drafts:
            self._queue(draft.queue)
            self._consumer(draft.queue).check_cost(draft.cost)
        self._check_room(drafts)
        sent = [self._send(draft) for draft in drafts]
        self._wake(*{draft.queue for draft in drafts})
        return sent

    def _check_room(self, drafts: Sequence[Draft]) -> None:
        """`QueueFullError` if what these would add passes a backlog limit."""
        messages: Counter[str] = Counter()
        body_bytes: Counter[str] = Counter()
        keys: set[tuple[str, str]] = set()
        for draft in drafts:
            if draft.dedupe is not None:
                if self._live_dedupe(draft) or (draft.queue, draft.dedupe) in keys:
                    continue
                keys.add((draft.queue, draft.dedupe))
            messages[draft.queue] += 1
            body_bytes[draft.queue] += len(draft.body)
        for name in messages:
            present, settings = self._tables.in_queue(name), self._queue(name).settings
            count = len(present) + messages[name]
            size = sum(len(m.body) for m in present) + body_bytes[name]
            if settings.max_backlog_messages is not None and count > settings.max_backlog_messages:
                raise QueueFullError(name, "its messages", count, settings.max_backlog_messages)
            if size > settings.max_backlog_bytes:
                raise QueueFullError(name, "its bytes", size, settings.max_backlog_bytes)

    def _live_dedupe(self, draft: Draft) -> Dedupe | None:
        dedupe = None if draft.dedupe is None else self._tables.dedupes.get((draft.queue, draft.dedupe))
        return dedupe if dedupe is not None and dedupe.is_live(self._now()) else None

    def _send(self, draft: Draft) -> Sent:
        first = self._live_dedupe(draft)
        if first is not None:
            return Sent(first.id, deduped=True)
        now, settings, seq = self._now(), self._queue(draft.queue).settings, next(self._tables.seqs)
        ready_at = now + (settings.delivery_delay_ms if draft.delay_ms is None else draft.delay_ms)
        self._tables.messages[seq] = Message(
            seq=seq,
            id=draft.id,
            queue=draft.queue,
            body=draft.body,
            content_type=draft.content_type,
            headers=draft.headers,
            priority=draft.priority,
            key=draft.key,
            sent_at=now,
            ready_at=ready_at,
            first_ready_at=ready_at,
            expires_at=None if draft.expires_in_ms is None else now + draft.expires_in_ms,
            max_retries=draft.max_retries,
            cost=draft.cost,
        )
        if draft.dedupe is not None:
            until = now + (settings.dedupe_window_ms if draft.dedupe_ms is None else draft.dedupe_ms)
            self._tables.dedupes[draft.queue, draft.dedupe] = Dedupe(id=draft.id, seq=seq, until=until)
        return Sent(draft.id)

    async def claim(self, request: ClaimRequest) -> Claimed:
        return self._claim(request)

    def _claim(self, request: ClaimRequest) -> Claimed:
        queue, now = self._queue(request.queue), self._now()
        if request.owner == PULL_OWNER:
            self._return_pulled(self._tables.in_queue(queue.name))
        if queue.paused or not self._may_own(request.owner):
            return Claimed(leases=[], version=queue.version)
        if queue.throttled_until > now:
            return Claimed(leases=[], opens_at=queue.throttled_until, version=queue.version)
        return self._claim_open(queue, request)

    async def append_and_claim(self, drafts: Sequence[Draft], request: ClaimRequest) -> tuple[list[Sent], Claimed]:
        return self._append(drafts), self._claim(request)

    def _may_own(self, owner: int) -> bool:
        """An owner that was reaped would hold its leases for ever."""
        return owner == PULL_OWNER or owner in self._tables.owners

    def _claim_open(self, queue: Queue, request: ClaimRequest) -> Claimed:
        limit = round_to_batches(request.limit, request.batch_size)
        slots = self._free_slots(queue, request)
        if slots is not None:
            limit = min(limit, slots * request.batch_size)
        admission = self._admit(queue, request)
        if admission.most is not None:
            limit = min(limit, admission.most)
        if limit == 0:  # a freed slot wakes
            has_suspects = self._has_suspects(queue, admission)
            return Claimed(leases=[], opens_at=admission.opens_at, suspects=has_suspects, version=queue.version)
        taken, opens_at = self._choose(queue, request, limit, admission)
        if (served := admission.after(len(taken))) is not None:
            self._tables.ticks[queue.name] = served
        lease_until = self._lease_until(request)
        leases = [message.lease(request.owner, lease_until, self._now()) for message in taken]
        calls = 0 if slots is None else -(-len(leases) // request.batch_size)
        if calls:
            held = self._tables.slots.get((queue.name, request.owner), 0)
            self._tables.slots[queue.name, request.owner] = held + calls
        return Claimed(
            leases=leases,
            calls=calls,
            opens_at=opens_at,
            suspects=self._has_suspects(queue, admission),
            version=queue.version,
        )

    def _has_suspects(self, queue: Queue, admission: Admission) -> bool:
        return any(m.crash_suspect and m.is_due(admission.due) for m in self._tables.in_queue(queue.name))

    def _free_slots(self, queue: Queue, request: ClaimRequest) -> int | None:
        """Handler calls that may start; None where nobody counts them."""
        limit = self._consumer(queue.name).calls_max
        if limit is None or request.owner == PULL_OWNER:
            return None
        held = sum(calls for (name, _), calls in self._tables.slots.items() if name == queue.name)
        return max(0, min(request.calls, limit - held))

    def _admit(self, queue: Queue, request: ClaimRequest) -> Admission:
        consumer, now = self._consumer(queue.name), self._now()
        if not consumer.is_paced or request.owner == PULL_OWNER:
            return admit_all(now)
        if consumer.dispatch is Dispatch.ALARM:
            return admit_by_alarm(now, is_busy=any(m.leased for m in self._tables.in_queue(queue.name)))
        return admit_at_tick(consumer, now, self._tables.ticks.get(queue.name))

    def _choose(
        self, queue: Queue, request: ClaimRequest, limit: int, admission: Admission
    ) -> tuple[list[Message], int | None]:
        lane = [m for m in self._tables.in_queue(queue.name) if not m.leased and m.crash_suspect == request.suspects]
        due = sorted((m for m in lane if m.is_due(admission.due)), key=Message.place)
        gate = self._gate(queue)
        if gate.window is not None and not gate.window.fits(self._now(), 1):
            return [], gate.window.opens_at(self._now(), 1)
        takes_turns = gate.consumer.fair and not request.suspects
        if takes_turns:
            self._begin_turns(queue, gate, due)
            ready = self._take_turns(queue, gate.copy(), due, limit, is_final=False)
        else:
            ready = self._walk(gate, due, limit)
        count, opens_at = cut_batches(
            [m.ready_at for m in ready],
            limit_reached=len(ready) == limit,
            batch_size=request.batch_size,
            timeout_ms=request.batch_timeout_ms,
            now=self._now(),
        )
        taken, left = ready[:count], ready[count:]
        if takes_turns:
            most = count if left else limit  # to its end, and who has no more to give leaves the line
            taken, left = self._take_turns(queue, gate, due, most, is_final=True), []
        self._close_gate(queue, gate, taken, left)
        if len(ready) == limit:
            return taken, admission.opens_at
        first = min((m.ready_at for m in lane if m.ready_at > admission.due), default=None)
        others = (admission.opens_for(first), opens_at, admission.opens_at, gate.opens_at, self._next_opening(queue))
        moments = [moment for moment in others if moment is not None]
        return taken, min(moments, default=None)

    def _lease_until(self, request: ClaimRequest) -> int | None:
        return None if request.lease_ms is None else self._now() + request.lease_ms

    async def settle(
        self, owner: int, settlements: Sequence[Settlement], *, ended: Mapping[str, int] | None = None
    ) -> Settled:
        answer = self._settle_all(owner, settlements)
        for name, calls in ((self._called_now(name), calls) for name, calls in (ended or {}).items()):
            held = self._tables.slots.get((name, owner), 0)
            self._tables.slots[name, owner] = max(0, held - calls)
            self._wake(name)
        return answer

    async def reconcile(self, owner: int, queue: str, held: Collection[tuple[int, int]], *, calls: int) -> int:
        queue = self._queue(self._called_now(queue)).name
        here = self._tables.in_queue(queue)
        if not self._may_own(owner):
            return 0
        orphans = [m for m in here if m.owner == owner and (m.seq, m.claims) not in held]
        for message in orphans:
            self._release(message)
        self._tables.slots[queue, owner] = calls
        self._wake(queue)
        return len(orphans)

    async def settle_pulled(self, settlements: Sequence[Settlement]) -> Settled:
        return self._settle_all(PULL_OWNER, settlements)

    def _settle_all(self, owner: int, settlements: Sequence[Settlement]) -> Settled:
        lost: list[int] = []
        dead: list[int] = []
        for settlement in settlements:
            message = self._tables.messages.get(settlement.seq)
            if message is None:
                continue
            if not self._may_settle(message, owner, settlement):
                lost.append(message.seq)
            elif self._settle(message, settlement):
                dead.append(message.seq)
        return Settled(lost, dead)

    def _may_settle(self, message: Message, owner: int, settlement: Settlement) -> bool:
        if owner == PULL_OWNER and settlement.action is Action.ACK:
            return message.claims_before < settlement.claim <= message.claims  # T3'
        return message.owner == owner and message.claims == settlement.claim

    def _settle(self, message: Message, settlement: Settlement) -> bool:
        """One verdict on a current lease; whether the message died of it."""
        action = settlement.action
        match action:
            case Action.ACK:
                if settlement.outcome is not None:
                    self._put_job(settlement.outcome)
                self._remove(message, end_of(settlement.outcome))
                self._wake(message.queue)  # the next of its key may go
                return False
            case Action.RETRY:
                message.crash_suspect = False
                reason = settlement.reason or DeadReason.RETRIES
                ready_at = self._now() + (settlement.delay_ms or 0)
                outcome = settlement.outcome
                return self._fail(message, reason, settlement.error, ready_at=ready_at, outcome=outcome)
            case Action.CRASH:
                return self._crash(message, settlement.error, settlement.outcome)
            case Action.REJECT:
                self._kill(message, settlement.reason or DeadReason.REJECTED, settlement.error, settlement.outcome)
                return True
            case Action.RELEASE:
                self._release_for(message, settlement)
                if settlement.outcome is not None:
                    self._note_put_off(message, settlement.outcome)
                return False
            case _:
                assert_never(action)

    def _release_for(self, message: Message, settlement: Settlement) -> None:
        if settlement.delay_ms is not None:
            message.crash_suspect = False  # its handler ran, and lived to say so
            message.ready_at = self._now() + settlement.delay_ms
            if settlement.parks is not None:
                self._park(message, settlement.parks)
            queue = self._queue(message.queue)
            if settlement.throttles:
                queue.throttled_until = max(queue.throttled_until, message.ready_at)
            key = self._consumer(queue.name).gate_key(message.key)
            if settlement.rests_key and key:
                rests = self._tables.rests
                rests[queue.name, key] = max(rests.get((queue.name, key), 0), message.ready_at)
        self._release(message)

    def _park(self, message: Message, events: tuple[str, ...]) -> None:
        """Its job puts itself off, unless one of these events is there."""
        if any(name in self._tables.events.get(message.id, {}) for name in events):
            message.ready_at = self._now()
            return
        message.first_ready_at, message.expires_at = message.ready_at, None
        self._keep_job(message, message.ready_at + RECORD_MS)

    async def extend(self, seq: int, claim: int, lease_ms: int) -> None:
        message = self._tables.messages.get(seq)
        if message is None or message.owner != PULL_OWNER or message.claims != claim:
            raise LeaseLostError(f"#{seq}" if message is None else show_id(message.id))
        assert message.lease_most is not None, "a pulled lease has an end"
        message.lease_until = min(self._now() + lease_ms, message.lease_most)

    async def peek(self, queue: str, *, limit: int, after_seq: int = 0) -> list[Peeked]:
        self._queue(queue)
        return [m.peek() for m in self._tables.in_queue(queue) if m.seq > after_seq][:limit]
