"""Behind a real PgBouncer in transaction mode, where each transaction may come to another session (F29).

The whole suite runs there too, in the campaign: `make faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from conveyor.model.errors import StoreUnsupportedError
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.store.postgres import PostgresStore
from kit.pgbouncer import the_pooler
from kit.postgres import the_server
from kit.scene import Scene, drafts

pytestmark = pytest.mark.anyio

STORES = 4


@pytest.fixture
def url() -> str:
    return the_pooler().url()


@pytest.fixture
async def stores(url: str) -> AsyncIterator[list[PostgresStore]]:
    """As many processes would be: together they have more connections than the pooler has sessions."""
    stores = [PostgresStore(url) for _ in range(STORES)]
    await asyncio.gather(*(store.open() for store in stores))
    yield stores
    await asyncio.gather(*(store.close() for store in stores))


@pytest.mark.parametrize(
    "consumer",
    [
        pytest.param({}, id="plain"),
        pytest.param({"ordered": True, "max_concurrency": 5}, id="gated", marks=pytest.mark.campaign),
    ],
)
async def test_many_stores_lose_nothing_and_lease_nothing_twice(
    stores: list[PostgresStore], consumer: dict[str, object]
) -> None:
    settings = ConsumerSettings(script="shop", dead_letter_queue="dead", max_retries=100, **consumer)  # type: ignore[arg-type]  # tests name real settings
    await stores[0].declare_consumer("jobs", settings)
    scene = Scene(settings)
    senders = [scene.send(store, seed) for seed, store in enumerate(stores)]
    workers = [scene.work(store, seed) for seed, store in enumerate([*stores, *stores])]
    async with asyncio.timeout(90):
        await asyncio.gather(*senders, *workers)
    assert scene.done == scene.sent
    assert (await stores[0].metrics("jobs")).backlog_messages == 0


async def test_with_a_way_around_the_pooler_others_are_heard(url: str, stores: list[PostgresStore]) -> None:
    around = the_server().url().partition("?")[0]
    listener = PostgresStore(f"{url}&pooler=true&listen={around}")
    await listener.open()
    await listener.create_queue("jobs", QueueSettings())
    heard: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    listener.subscribe(heard.put_nowait)
    names: set[str] = set()
    async with asyncio.timeout(60):
        while "jobs" not in names:  # LISTEN begins in the background
            await stores[0].append(drafts(stores[0], 1))
            with contextlib.suppress(TimeoutError):
                names |= await asyncio.wait_for(heard.get(), timeout=0.05)
    await listener.close()


async def test_behind_a_pooler_nobody_listens(stores: list[PostgresStore]) -> None:
    """What is swallowed is not waited for; the poll delivers."""
    bells = [store._bell for store in stores]
    for store in stores:
        store.subscribe(lambda _names: None)
    assert not any(bell is None or bell._listens for bell in bells)


async def test_a_pooler_that_is_denied_is_named(url: str) -> None:
    """`pooler=false` prepares statements by name: sooner or later one meets a session that does not know it."""
    stores = [PostgresStore(f"{url}&pooler=false") for _ in range(4)]
    with pytest.raises(StoreUnsupportedError, match="pooler=true"):
        await asyncio.gather(*(use(store) for store in stores))
    for store in stores:
        await store.close()


async def use(store: PostgresStore) -> None:
    await store.open()
    for _ in range(50):
        await asyncio.gather(*(store.list_owners() for _ in range(5)))
