"""Senders and workers on many stores at once, watched for broken promises."""

from __future__ import annotations

import random
from collections import Counter

from conveyor.model.ids import IdSource
from conveyor.model.message import Draft
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.protocol import Store
from conveyor.store.records import Claimed, ClaimRequest, Ending, Evidence, OwnerInfo


def drafts(store: Store, count: int, **options: object) -> list[Draft]:
    ids = IdSource(store.clock)
    return [Draft(id=ids.new(), **({"queue": "jobs", "body": b'{"n":1}'} | options)) for _ in range(count)]  # type: ignore[arg-type]  # tests name real options


async def an_owner(store: Store) -> int:
    return await store.register_owner(OwnerInfo(app="test", host=store.host, pid=1, supervisor_pid=1))


class Scene:
    """Senders and workers on many stores, watched for broken promises."""

    CALLS = 15
    BATCH = 4

    def __init__(self, settings: ConsumerSettings) -> None:
        self.settings = settings
        self.sent: set[bytes] = set()
        self.done: set[bytes] = set()
        self.held: set[bytes] = set()
        self.keys: Counter[str | None] = Counter()
        self.senders = 0
        self.leased: list[float] = []

    async def send(self, store: Store, seed: int) -> None:
        dice = random.Random(seed)
        self.senders += 1
        for _ in range(self.CALLS):
            batch = [
                *drafts(store, self.BATCH - 1, key=dice.choice("abc")),
                *drafts(store, 1, priority=dice.randint(4, 6)),
            ]
            self.sent |= {draft.id for draft in batch}
            await store.append(batch)
        self.senders -= 1

    async def work(self, store: Store, seed: int) -> None:
        dice = random.Random(seed)
        owner = await an_owner(store)
        while self.senders or self.done != self.sent:
            claimed = await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=dice.randint(1, 9)))
            self._judge_rate(store, claimed)
            for lease in claimed.leases:
                assert lease.id not in self.held | self.done, "I2, I5"
                self.held.add(lease.id)
                self.keys[lease.key] += lease.key is not None
            if self.settings.key_limit is not None:
                assert max(self.keys.values(), default=0) <= self.settings.key_limit, "I9"
            if self.settings.max_concurrency is not None:
                assert len(self.held) <= self.settings.max_concurrency, "I8"
            verdicts = [Settlement(lease.seq, lease.claim, self._action(dice)) for lease in claimed.leases]
            for lease, verdict in zip(claimed.leases, verdicts, strict=True):
                self.held.discard(lease.id)
                self.keys[lease.key] -= lease.key is not None
                if verdict.action is Action.ACK:
                    self.done.add(lease.id)
            if dice.random() < 0.1:
                self.done -= {lease.id for lease in claimed.leases}
                await store.reap_owner(owner, Evidence(ending=Ending.EXITED))
                assert await store.settle(owner, verdicts) is not None
                owner = await an_owner(store)
            else:
                settled = await store.settle(owner, verdicts, ended={"jobs": claimed.calls})
                assert settled.lost == [] and settled.dead == []

    def _judge_rate(self, store: Store, claimed: Claimed) -> None:
        """By the time at which the answers came, so that only what overlaps for certain is counted."""
        now = store.clock.monotonic()
        self.leased += [now for _ in claimed.leases]
        rate = self.settings.rate
        if rate is not None:
            within = [moment for moment in self.leased if moment > now - rate.period_ms / 2_000]
            assert len(within) <= rate.count, "more than the rate"

    @staticmethod
    def _action(dice: random.Random) -> Action:
        return dice.choice([Action.ACK, Action.ACK, Action.ACK, Action.RETRY, Action.RELEASE])
