"""What waits for long behind others of a higher priority is lifted by the sweep."""

from __future__ import annotations

import pytest

from conveyor.store.ageing import LIFTED_MAX
from conveyor.store.protocol import Store
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.steps import (
    a_worker,
    claim,
    claim_one,
    ids_of,
    look,
    open_inbox,
    send,
    send_many,
    settle,
)
from conveyor.testing.factories import a_retry


@pytest.mark.anyio
class TestAgeing:
    async def test_what_has_waited_long_goes_first(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ageing_ms=60_000)
        low = await send(store, priority=0)
        await clock.advance(61)
        high = await send_many(store, 3, priority=9)
        assert (await store.sweep()).lifted == 1
        assert ids_of(await claim(store, await a_worker(store))) == [low, *high]

    async def test_what_has_not_waits(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ageing_ms=60_000)
        low = await send(store, priority=0)
        await clock.advance(60)
        high = await send(store, priority=9)
        assert (await store.sweep()).lifted == 0
        assert ids_of(await claim(store, await a_worker(store))) == [high, low]

    async def test_none_passes_an_older_one_of_a_higher_level(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ageing_ms=60_000)
        high = await send(store, priority=9)
        await clock.advance(1)
        low = await send(store, priority=0)
        await clock.advance(120)
        assert (await store.sweep()).lifted == 0
        assert ids_of(await claim(store, await a_worker(store))) == [high, low]

    async def test_few_are_lifted_and_more_when_those_have_gone(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ageing_ms=60_000)
        middle = await send_many(store, 2, priority=5)
        low = await send_many(store, LIFTED_MAX + 5, priority=0)
        await clock.advance(61)
        high = await send_many(store, 2, priority=9)
        assert (await store.sweep()).lifted == LIFTED_MAX
        assert (await store.sweep()).lifted == 0, "those wait still"
        worker = await a_worker(store)
        first = await claim(store, worker, limit=LIFTED_MAX)
        assert ids_of(first) == [*middle, *low[: LIFTED_MAX - 2]], "the oldest, whatever their level was"
        assert (await store.sweep()).lifted == 7
        assert ids_of(await claim(store, worker, limit=100)) == [*low[LIFTED_MAX - 2 :], *high]

    async def test_the_lifted_stays_so_and_is_the_same_message(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ageing_ms=0)
        await send(store, priority=2, body=b'"low"', headers=b'{"h":1}')
        await clock.advance(1)
        await send(store, priority=8)
        await store.sweep()
        worker = await a_worker(store)
        lease = await claim_one(store, worker)
        assert (lease.body, lease.headers, lease.claim) == (b'"low"', b'{"h":1}', 1)
        await settle(store, worker, a_retry(lease, delay_ms=1_000))
        assert [each.priority for each in await look(store)] == [8, 8]
        await clock.advance(1)
        assert (await claim_one(store, worker)).seq != lease.seq, "a retry waits anew"
        assert (await claim_one(store, worker)).claim == 2

    async def test_it_may_be_switched_off(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ageing_ms=None)
        await send(store, priority=0)
        await clock.advance(3_600)
        await send(store, priority=9)
        assert (await store.sweep()).lifted == 0

    async def test_delayed_and_alone_is_not_behind(self, store: Store, clock: ManualClock) -> None:
        await open_inbox(store, ageing_ms=0)
        await send(store, priority=0)
        await send(store, priority=9, delay_ms=600_000)
        await clock.advance(60)
        assert (await store.sweep()).lifted == 0
