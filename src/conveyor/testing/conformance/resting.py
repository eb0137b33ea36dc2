"""Rests that were written before the clock was set back end with a sweep."""

from __future__ import annotations

import pytest

from conveyor.model.duration import MINUTE_MS
from conveyor.model.message import DELAY_MS_MAX
from conveyor.model.rate import Rate
from conveyor.store.protocol import Store
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import a_worker, ask, claim, claim_one, ids_of, open_inbox, send_many, settle
from conveyor.testing.factories import a_release, an_ack

_DAY_S = 86_400
_LONGEST_S = DELAY_MS_MAX / 1000


@pytest.mark.anyio
class TestClockSetBack:
    async def test_a_throttle_of_then_ends(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store)
        ids = await send_many(store, 4)
        await clock.advance(3 * _DAY_S)
        worker = await a_worker(store)
        await settle(store, worker, a_release(await claim_one(store, worker), delay_ms=9_000, throttles=True))
        clock.step_back(2 * _DAY_S)
        await store.sweep()
        worker = await a_worker(store)
        lease = await claim_one(store, worker)
        assert lease.id == ids[1]
        await settle(store, worker, a_release(lease, delay_ms=9_000, throttles=True))
        await store.sweep()
        answer = await ask(store, worker)
        assert (answer.leases, answer.opens_at) == ([], clock.now_ms() + 9_000), "one of now holds"
        await clock.advance(9)
        assert ids_of(await claim(store, worker)) == [*ids[2:], ids[1]]

    @pytest.mark.parametrize("gate", [{"key_concurrency": 9}, {"key_concurrency": 9, "fair": True}])
    async def test_a_rest_of_a_key_ends(self, store: Store, clock: ManualClock, gate: dict[str, int]) -> None:
        await open_inbox(store, **gate)
        ids = await send_many(store, 3, key="k")
        await clock.advance(3 * _DAY_S)
        worker = await a_worker(store)
        await settle(store, worker, a_release(await claim_one(store, worker), delay_ms=9_000, rests_key=True))
        assert await claim(store, worker) == []
        clock.step_back(2 * _DAY_S)
        await store.sweep()
        worker = await a_worker(store)
        lease = await claim_one(store, worker)
        assert lease.id == ids[1]
        await settle(store, worker, a_release(lease, delay_ms=9_000, rests_key=True))
        await store.sweep()
        assert await claim(store, worker) == [], "one of now holds"
        await clock.advance(9)
        assert set(ids_of(await claim(store, worker))) == set(ids[1:])

    @pytest.mark.parametrize("is_fair", [False, True])
    async def test_a_key_whose_rate_was_spent_opens(self, store: Store, clock: ManualClock, *, is_fair: bool) -> None:
        await open_inbox(store, key_rate=Rate(2, MINUTE_MS), fair=is_fair)
        ids = await send_many(store, 9, key="k")
        await clock.advance(7_200)
        worker = await a_worker(store)
        assert ids_of(await claim(store, worker)) == ids[:2]
        clock.step_back(3_600)
        await store.sweep()
        worker = await a_worker(store)
        assert ids_of(await claim(store, worker)) == ids[2:4]
        await store.sweep()
        assert await claim(store, worker) == [], "what was taken since counts"
        await clock.advance(62)
        worker = await a_worker(store)
        assert ids_of(await claim(store, worker)) == ids[4:6]

    async def test_the_longest_rest_of_now_holds(self, store: Store, clock: ManualClock) -> None:
        """Beside a rate whose period is short."""
        await open_inbox(store, key_rate=Rate(9, MINUTE_MS))
        await send_many(store, 2, key="k")
        await send_many(store, 2)
        worker = await a_worker(store)
        keyed, _, free, _ = await claim(store, worker)
        await settle(store, worker, a_release(keyed, delay_ms=DELAY_MS_MAX, rests_key=True))
        await settle(store, worker, a_release(free, delay_ms=DELAY_MS_MAX, throttles=True))
        late = await send_many(store, 1, key="k")
        await store.sweep()
        answer = await ask(store, worker)
        assert (answer.leases, answer.opens_at) == ([], clock.now_ms() + DELAY_MS_MAX)
        await clock.advance(_LONGEST_S - 0.001)
        worker = await a_worker(store)
        assert await claim(store, worker) == []
        await clock.advance(0.001)
        found = await claim(store, worker)
        assert late[0] in ids_of(found)
        await settle(store, worker, *map(an_ack, found))
