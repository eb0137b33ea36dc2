"""The state machine: each rule is one call to both stores; after each, all that is visible must agree and hold."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from conveyor.model.message import Draft, Lease, Sent
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.memory import MemoryStore
from conveyor.store.protocol import Store
from conveyor.store.records import PULL_OWNER, Claimed, Ending, Fired
from conveyor.testing.clock import NOON_MS, ManualClock
from conveyor.testing.factories import (
    a_claim,
    a_consumer,
    a_draft,
    a_firing,
    a_schedule,
    an_ending,
    an_entry,
    an_owner,
)
from conveyor.testing.histories.draws import DAYS, DRAFTS, GATES, PICK, QUEUE, RESTS, RETRIES, SECONDS, Day, Rests
from conveyor.testing.histories.ledger import Ledger
from conveyor.testing.histories.pair import ALERTS, Pair, Refused
from conveyor.testing.histories.views import fates, grants, nothing, swept

_Thing = TypeVar("_Thing")


class StoreMachine(RuleBasedStateMachine):
    """Subclasses say how the store under test is made."""

    folders: ClassVar[str | None] = None

    @staticmethod
    def make_store(folder: Path, clock: ManualClock) -> Store:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.folders))
        self.clock = ManualClock()
        self.pair = Pair(MemoryStore(self.clock), self.make_store(self.folder, self.clock))
        self.ledger = Ledger()
        self.owners: list[int] = []
        self.gone: list[int] = []
        self.leases: list[tuple[int, Lease]] = []
        self.ids = iter(range(1, 1_000_000))

    def teardown(self) -> None:
        self.pair.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # beginnings

    @initialize(retries=RETRIES, slots=st.sampled_from([None, 1, 3]), gate=GATES, follows=st.booleans())
    def open_queues(self, retries: int, slots: int | None, gate: dict[str, object], follows: bool) -> None:
        plain = a_consumer(max_retries=retries, max_concurrency=slots, dead_letter_queue="dead", alert_queue=ALERTS)
        keyed = a_consumer(max_retries=retries, dead_letter_queue="dead" if follows else None, **gate)
        self.pair.ask(lambda store: store.create_queue("dead", QueueSettings(retention_ms=300_000)), view=nothing)
        full = QueueSettings(retention_ms=120_000, max_backlog_messages=12)
        self.pair.ask(lambda store: store.create_queue("a", full), view=nothing)
        self.pair.ask(lambda store: store.create_queue("b", QueueSettings(dedupe_window_ms=10_000)), view=nothing)
        self.pair.ask(lambda store: store.declare_consumer("a", plain), view=nothing)
        self.pair.ask(lambda store: store.declare_consumer("b", keyed), view=nothing)
        self.pair.ask(lambda store: store.declare_schedule(a_schedule(queue="b", overlap="skip"), 0))
        self.register()

    def register(self) -> None:
        self.owners.append(self.pair.ask(lambda store: store.register_owner(an_owner())))

    # T1

    @rule(parts=DRAFTS)
    def send_plain(self, parts: list[dict[str, object]]) -> None:
        self._send("a", parts)

    @rule(parts=DRAFTS)
    def send_keyed(self, parts: list[dict[str, object]]) -> None:
        self._send("b", parts)

    def _send(self, queue: str, parts: list[dict[str, object]]) -> None:
        drafts = [self._draft(queue, **each) for each in parts]
        try:
            sent = self.pair.ask(lambda store: store.append(drafts))
        except Refused:
            return
        self.ledger.sent(drafts, sent)

    @rule(parts=DRAFTS, queue=st.sampled_from(["a", "b"]), pick=PICK, limit=st.integers(1, 3))
    def send_and_claim(self, parts: list[dict[str, object]], queue: str, pick: int, limit: int) -> None:
        drafts, owner = [self._draft(queue, **each) for each in parts], _pick(self.owners or self.gone, pick)
        request = a_claim(queue=queue, owner=owner, limit=limit, calls=limit)
        try:
            sent, claimed = self.pair.ask(
                lambda store: store.append_and_claim(drafts, request), view=lambda answer: grants(answer[1])
            )
        except Refused:
            return
        self.ledger.sent(drafts, sent)
        self.ledger.claimed(request, claimed, self._consumer(queue), self.clock.now_ms())
        self.leases += [(owner, lease) for lease in claimed.leases]

    def _draft(self, queue: str, **parts: object) -> Draft:
        if parts.get("key") is not None:
            parts["expires_in_ms"] = None  # whether the next of a key goes in the same claim is left open
        return a_draft(id=next(self.ids).to_bytes(16, "big"), queue=queue, **parts)

    # T2

    @rule(
        pick=PICK,
        queue=QUEUE,
        limit=st.integers(1, 7),
        calls=st.integers(0, 4),
        batch=st.sampled_from([1, 1, 2, 3]),
        suspects=st.booleans(),
    )
    def claim(self, pick: int, queue: str, limit: int, calls: int, batch: int, suspects: bool) -> None:
        owner = _pick(self.owners or self.gone, pick)
        self._claim(
            queue=queue,
            owner=owner,
            limit=limit,
            calls=calls,
            batch_size=batch,
            batch_timeout_ms=5_000,
            suspects=suspects,
        )

    @rule(queue=QUEUE, limit=st.integers(1, 5), lease_ms=st.sampled_from([1_000, 10_000, 30_000]))
    def pull(self, queue: str, limit: int, lease_ms: int) -> None:
        self.sweep()  # a store may end more or fewer leases of other queues on the way
        self.agree()
        self._claim(queue=queue, owner=PULL_OWNER, limit=limit, lease_ms=lease_ms)

    def _claim(self, *, queue: str, owner: int, **parts: object) -> Claimed:
        request = a_claim(queue=queue, owner=owner, **parts)
        claimed = self.pair.ask(lambda store: store.claim(request), view=grants)
        self.ledger.claimed(request, claimed, self._consumer(queue), self.clock.now_ms())
        self.leases += [(owner, lease) for lease in claimed.leases]
        return claimed

    def _consumer(self, queue: str) -> ConsumerSettings | None:
        return self.pair.run(self.pair.real.get_queue(queue)).consumer

    # T3, T4, T6, T7, T8

    @precondition(lambda self: self.leases)
    @rule(
        picks=st.lists(PICK, min_size=1, max_size=4, unique=True),
        newest=st.sampled_from([True, True, False]),
        actions=st.lists(st.sampled_from(list(Action)), min_size=1, max_size=4),
        delay=st.sampled_from([None, 0, 3_000]),
        rests=RESTS,
        ended=st.integers(0, 2),
    )
    def settle(
        self, picks: list[int], newest: bool, actions: list[Action], delay: int | None, rests: Rests, ended: int
    ) -> None:
        """Verdicts on leases of any age, so that many of them are stale."""
        chosen = {lease.seq: (owner, lease) for owner, lease in (self._lease(pick, newest) for pick in picks)}
        owner = next(iter(chosen.values()))[0]
        mine = [lease for holder, lease in chosen.values() if holder == owner]
        verdicts = [(lease, _pick(actions, place), delay, rests) for place, lease in enumerate(mine)]
        self._settle(owner, verdicts, ended={"a": ended})

    @rule(day=DAYS)
    def serve_plain(self, day: Day) -> None:
        self._serve("a", day)

    @rule(day=DAYS)
    def serve_keyed(self, day: Day) -> None:
        self._serve("b", day)

    @rule(day=DAYS)
    def serve_dead(self, day: Day) -> None:
        self._serve("dead", day)

    def _serve(self, queue: str, day: Day) -> None:
        """What a worker does all day: a claim, and a verdict on each message of it."""
        if not self.owners:
            self.register()
        owner = _pick(self.owners, day.pick)
        claimed = self._claim(queue=queue, owner=owner, limit=day.limit, suspects=day.suspects)
        self.agree()
        verdicts = [(lease, _pick(day.actions, at), day.delay, day.rests) for at, lease in enumerate(claimed.leases)]
        self._settle(owner, verdicts, ended={queue: claimed.calls})

    def _settle(
        self, owner: int, verdicts: Sequence[tuple[Lease, Action, int | None, str | None]], *, ended: dict[str, int]
    ) -> None:
        settlements = [
            Settlement(
                *(lease.seq, lease.claim, action, delay, None, f"error {lease.seq}", rests == "queue", rests == "key")
            )
            for lease, action, delay, rests in verdicts
        ]
        if owner == PULL_OWNER:
            settled = self.pair.ask(lambda store: store.settle_pulled(settlements), view=fates)
        else:
            settled = self.pair.ask(lambda store: store.settle(owner, settlements, ended=ended), view=fates)
            for queue, calls in ended.items():
                self.ledger.ended(queue, owner, calls)
        for lease, action, _, _ in verdicts:
            if action is Action.ACK and lease.seq not in settled.lost:
                self.ledger.done(lease.id, lease.claim)

    def _lease(self, pick: int, newest: bool) -> tuple[int, Lease]:
        return self.leases[-1 - pick % len(self.leases)] if newest else _pick(self.leases, pick)

    @precondition(lambda self: any(owner == PULL_OWNER for owner, _ in self.leases))
    @rule(pick=PICK)
    def extend(self, pick: int) -> None:
        lease = _pick([lease for owner, lease in self.leases if owner == PULL_OWNER], pick)
        try:
            self.pair.ask(lambda store: store.extend(lease.seq, lease.claim, 30_000))
        except Refused:
            return

    # T5

    @precondition(lambda self: self.owners)
    @rule(pick=PICK, ending=st.sampled_from(list(Ending)), begun=st.integers(0, 3), culprit=PICK)
    def reap(self, pick: int, ending: Ending, begun: int, culprit: int) -> None:
        owner = _pick(self.owners, pick)
        held = [lease.seq for holder, lease in self.leases if holder == owner]
        evidence = an_ending(
            ending, started=frozenset(held[-begun:] if begun else []), culprit=_pick(held, culprit) if held else None
        )
        self.pair.ask(lambda store: store.reap_owner(owner, evidence))
        self._bury(owner)

    def _bury(self, owner: int) -> None:
        self.ledger.owner_gone(owner)
        self.owners.remove(owner)
        self.gone.append(owner)

    @rule(pick=PICK, queue=QUEUE, known=st.integers(0, 4), calls=st.integers(0, 3))
    def reconcile(self, pick: int, queue: str, known: int, calls: int) -> None:
        """An owner knows of its newest leases only; some of those are long settled."""
        owner = _pick(self.owners or self.gone, pick)
        mine = [(lease.seq, lease.claim) for holder, lease in self.leases if holder == owner]
        held = mine[len(mine) - known :] if known <= len(mine) else mine
        self.pair.ask(lambda store: store.reconcile(owner, queue, held, calls=calls))
        if owner in self.owners:
            self.ledger.stated(queue, owner, calls)

    @rule(seconds=SECONDS, renews=st.sampled_from([True, True, False]))
    def advance(self, seconds: float, renews: bool) -> None:
        self.pair.run(self.clock.advance(seconds))
        if renews:
            asked = self.owners + self.gone
            assert self.pair.ask(lambda store: store.renew_owners(asked)) == self.gone

    @rule()
    def sweep(self) -> None:
        self.pair.ask(lambda store: store.sweep(), view=swept)
        alive = {row.owner for row in self.pair.run(self.pair.real.list_owners())}
        for owner in [owner for owner in self.owners if owner not in alive]:
            self._bury(owner)

    # T9, T11, T12, and operators

    @rule(queue=QUEUE, pauses=st.sampled_from([False, False, True]))
    def pause_or_resume(self, queue: str, pauses: bool) -> None:
        self.pair.ask(lambda store: store.pause(queue) if pauses else store.resume(queue))

    @rule(chosen=st.one_of(st.none(), st.sets(st.integers(1, 12), max_size=4)))
    def redrive(self, chosen: set[int] | None) -> None:
        seqs = None if chosen is None else sorted(chosen)
        self.pair.ask(lambda store: store.redrive("dead", seqs=seqs))

    @rule(
        act=st.sampled_from(["edit", "edit", "declare", "purge", "make anew"]),
        queue=QUEUE,
        retries=RETRIES,
        gate=GATES,
        follows=st.booleans(),
    )
    def operate(self, act: str, queue: str, retries: int, gate: dict[str, object], follows: bool) -> None:
        settings = a_consumer(max_retries=retries, dead_letter_queue="dead" if follows else None, **gate)
        if act in ("edit", "declare", "make anew"):
            self.ledger.rates_change("b")
        if act == "edit":
            self.pair.ask(lambda store: store.put_consumer("b", settings), view=nothing)
        elif act == "declare":
            self.pair.ask(lambda store: store.declare_consumer("b", settings), view=nothing)
        elif act == "purge":
            self._lose(queue)
            gone = len([place for place in self.ledger.places.values() if place.queue == queue])
            assert self.pair.ask(lambda store: store.purge(queue)) == gone
        else:
            self._lose("b")
            self.pair.ask(lambda store: store.delete_queue("b"))
            self.pair.ask(lambda store: store.declare_consumer("b", settings), view=nothing)

    def _lose(self, queue: str) -> None:
        self.ledger.removed([id for id, place in self.ledger.places.items() if place.queue == queue])

    # C1, kv

    @rule(tick=st.integers(1, 8), missed=st.sampled_from([False, False, True]))
    def fire(self, tick: int, missed: bool) -> None:
        message = self._draft("b")
        tick += NOON_MS  # no sweep forgets what is so young
        firing = a_firing(tick=tick, next_tick=tick + 1, message=message, missed=missed)
        if self.pair.ask(lambda store: store.fire(firing)) is Fired.SENT:
            self.ledger.fired("nightly", tick)
            self.ledger.sent([message], [Sent(message.id)])

    @precondition(lambda self: self.ledger.ticks)
    @rule(pick=PICK, error=st.sampled_from([None, "boom"]), ends=st.booleans())
    def report_run(self, pick: int, error: str | None, ends: bool) -> None:
        _, tick = _pick(sorted(self.ledger.ticks), pick)
        if ends:
            self.pair.ask(lambda store: store.finish_run("nightly", tick, error=error))
        else:
            self.pair.ask(lambda store: store.begin_run("nightly", tick))

    @rule(key=st.text(min_size=1, max_size=2), value=st.one_of(st.none(), st.binary(max_size=2)), lives=st.booleans())
    def note(self, key: str, value: bytes | None, lives: bool) -> None:
        until = None if lives else self.clock.now_ms() + 5_000
        if value is None:
            self.pair.ask(lambda store: store.kv_delete("ns", key))
        else:
            self.pair.ask(lambda store: store.kv_put("ns", an_entry(key=key, value=value, expires_at=until)))
        self.pair.ask(lambda store: store.kv_get("ns", key))

    @invariant()
    def agree(self) -> None:
        """Both stores show the same, and I1 to I12 hold."""
        picture = self.pair.look()
        letterboxes = {
            queue.name: None if queue.consumer is None else queue.consumer.dead_letter_queue for queue in picture.queues
        }
        self.ledger.step(picture.messages, letterboxes)
        assert len(picture.alerts) == self.ledger.deaths, "I6: one alert for each death"


def _pick(things: list[_Thing], pick: int) -> _Thing:
    return things[pick % len(things)]
