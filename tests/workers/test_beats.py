"""The supervisor's heartbeat, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from conveyor.model.errors import StoreFullError
from conveyor.store.memory import MemoryStore
from conveyor.store.records import OWNER_LEASE_MS
from conveyor.supervisor.supervisor import Plan, Supervisor
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import an_owner

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[MemoryStore]:
    store = MemoryStore(clock)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def worker(store: MemoryStore) -> AsyncIterator[Any]:
    """A worker that lives, and a supervisor that tends it."""
    killed: list[bool] = []
    owner = await store.register_owner(an_owner())
    worker = SimpleNamespace(owner=owner, killed=killed, kill=lambda: killed.append(True))
    supervisor = Supervisor(store, Plan(app="shop", worker=[]), emit=lambda _: None, chance=Random(1))
    supervisor._workers.append(worker)  # type: ignore[arg-type]  # as much of a worker as it asks
    tending = [asyncio.create_task(supervisor._tend_leases()), asyncio.create_task(supervisor._tend_store())]
    yield worker
    for task in tending:
        task.cancel()
    await asyncio.gather(*tending, return_exceptions=True)


async def owners(store: MemoryStore) -> list[int]:
    return [row.owner for row in await store.list_owners()]


async def test_leases_live_as_long_as_they_are_renewed(store: MemoryStore, clock: ManualClock, worker: Any) -> None:
    await clock.advance(100)
    assert await owners(store) == [worker.owner]
    assert not worker.killed


async def test_dead_owners_of_others_are_swept(store: MemoryStore, clock: ManualClock, worker: Any) -> None:
    await store.register_owner(an_owner(host="elsewhere"))
    await clock.advance(OWNER_LEASE_MS / 1000 + 2)
    assert await owners(store) == [worker.owner]


async def test_machine_that_slept_does_not_bury_its_own_workers(
    store: MemoryStore, clock: ManualClock, worker: Any
) -> None:
    neighbour = await store.register_owner(an_owner(host="elsewhere"))
    await clock.advance(7)
    clock.step_back(-8 * 3600)  # the store's clock goes on, nobody else's does
    await clock.advance(6)
    assert await owners(store) == [worker.owner, neighbour], "the neighbour has time to wake up, too"
    await clock.advance(30)
    assert await owners(store) == [worker.owner]
    assert not worker.killed


async def test_store_that_refused_for_long_does_not_cost_the_workers(
    store: MemoryStore, clock: ManualClock, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_arguments: object) -> Any:
        raise StoreFullError("shop.db")

    with monkeypatch.context() as patch:
        patch.setattr(store, "renew_owners", refuse)
        await clock.advance(120)
        assert await owners(store) == [worker.owner]
    await clock.advance(60)
    assert await owners(store) == [worker.owner]
    assert not worker.killed


async def test_worker_whose_owner_is_gone_is_killed(store: MemoryStore, clock: ManualClock, worker: Any) -> None:
    from conveyor.store.records import Ending, Evidence

    await store.reap_owner(worker.owner, Evidence(ending=Ending.LOST))
    await clock.advance(6)
    assert worker.killed
