"""A PostgreSQL server that goes away and comes back, and a network that eats answers: calls wait, and nothing is lost
or written twice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import asyncpg
import httpx2
import pytest

from conveyor import Conveyor
from conveyor.model.errors import OutcomeUnknownError, StoreAwayError, StoreBusyError
from conveyor.model.events import Event, StoreBack, StoreLost
from conveyor.model.message import Peeked
from conveyor.model.settings import QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.server.asgi import READY_S, make_asgi
from conveyor.store.postgres import PostgresStore, bell, opening
from conveyor.store.postgres.bell import Bell
from conveyor.store.postgres.door import Door
from conveyor.store.postgres.opening import read_address
from conveyor.store.records import ClaimRequest
from kit.postgres import DURABLE, a_server, the_server
from kit.proxy import Mode, Proxy, a_proxy
from kit.scene import an_owner, drafts

pytestmark = pytest.mark.anyio

GIVEN_UP = {StoreAwayError, OutcomeUnknownError}
"""The latter if the send went out on a connection whose end had not been heard of."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with a_proxy(the_server().port) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[PostgresStore]:
    """By way of the proxy."""
    store = PostgresStore(the_server().url(proxy.port))
    await store.open()
    await store.create_queue("jobs", QueueSettings())
    yield store
    await store.close()


async def test_calls_wait_for_a_server_that_crashes_and_comes_back() -> None:
    told: list[Event] = []
    with a_server(**DURABLE) as server:
        store = PostgresStore(server.url(), emit=told.append)
        await store.open()
        await store.create_queue("jobs", QueueSettings())
        for _ in range(3):
            sends = [asyncio.ensure_future(store.append([draft])) for draft in drafts(store, 200)]
            await sends[0]
            server.stop("immediate")
            looking = asyncio.ensure_future(store.get_queue("jobs"))
            while not isinstance(told[-1] if told else None, StoreLost):
                await store.clock.sleep(0.01)
            server.start()
            await asyncio.gather(*sends, looking)
        assert (await store.metrics("jobs")).backlog_messages == 600
        await store.close()
    assert [type(event) for event in told] == [StoreLost, StoreBack] * 3


async def test_a_call_waits_no_longer_than_it_may() -> None:
    with a_server(**DURABLE) as server:
        store = PostgresStore(server.url(patience="1"))
        await store.open()
        await store.create_queue("jobs", QueueSettings())
        server.stop("immediate")
        calls = [store.append(drafts(store, 1)), store.get_queue("jobs"), store.append(drafts(store, 1))]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} <= GIVEN_UP
        assert "patience" in str(answers[1])
        server.start()
        while True:
            with contextlib.suppress(StoreAwayError):  # which a busy machine is for longer than a second
                await store.get_queue("jobs")
                break
        await store.append(drafts(store, 1))
        assert (await store.metrics("jobs")).backlog_messages == 1, "nothing was written of those that failed"
        await store.close()


async def test_a_store_closes_at_once_while_its_server_is_away() -> None:
    with a_server(**DURABLE) as server:
        store = PostgresStore(server.url(patience="600"))
        await store.open()
        await store.create_queue("jobs", QueueSettings())
        server.stop("immediate")
        calls = [asyncio.ensure_future(store.append(drafts(store, 1))), asyncio.ensure_future(store.list_queues())]
        await store.clock.sleep(0.2)  # they wait by now
        async with asyncio.timeout(60):
            await store.close()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} <= GIVEN_UP


async def test_readyz_says_within_two_seconds_that_the_server_is_away() -> None:
    with a_server(**DURABLE) as server:
        asgi = make_asgi(Conveyor("shop", url=server.url()))
        transport = httpx2.ASGITransport(asgi)
        async with (
            asgi.router.lifespan_context(asgi),
            httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
        ):
            server.stop("immediate")
            async with asyncio.timeout(READY_S + 20):  # not the store's patience
                ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["code"]) == (503, "store_slow")
            assert (await client.get("/healthz")).status_code == 200
            server.start()
            async with asyncio.timeout(60):
                while (await client.get("/readyz")).status_code != 200:
                    pass


@pytest.mark.parametrize("mode", [Mode.CUT_BEFORE_REPLY, Mode.CUT_AFTER_REQUEST])
async def test_answers_that_are_lost_neither_lose_a_send_nor_make_it_twice(
    store: PostgresStore, proxy: Proxy, mode: Mode
) -> None:
    """Whichever answer it is: to BEGIN, to an INSERT, or to COMMIT."""
    proxy.mode, proxy.share = mode, 0.1
    batches = [drafts(store, 2) for _ in range(100)]
    for start in range(0, len(batches), 5):
        await asyncio.gather(*(store.append(batch) for batch in batches[start : start + 5]))
    proxy.mode = Mode.THROUGH
    assert proxy.cuts > 3
    peeked: list[Peeked] = []
    while found := await store.peek("jobs", limit=100, after_seq=peeked[-1].seq if peeked else 0):
        peeked += found
    assert Counter(each.id for each in peeked) == Counter(draft.id for batch in batches for draft in batch)


async def test_settlements_whose_answers_are_lost_are_settled_once(store: PostgresStore, proxy: Proxy) -> None:
    await store.append(drafts(store, 60))
    owner = await an_owner(store)
    proxy.mode, proxy.share = Mode.CUT_BEFORE_REPLY, 0.1
    done: list[int] = []
    while len(done) < 60:
        try:
            claimed = await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=3))
        except OutcomeUnknownError:  # it may have leased what nobody knows of
            await store.reconcile(owner, "jobs", [], calls=0)
            continue
        settled = await store.settle(owner, [Settlement(lease.seq, lease.claim) for lease in claimed.leases])
        assert not settled.lost
        done += [lease.seq for lease in claimed.leases]
    assert len(set(done)) == 60
    assert proxy.cuts > 0
    assert (await store.metrics("jobs")).backlog_messages == 0


async def test_a_connection_that_died_in_silence_is_given_up(
    store: PostgresStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "ANSWER_S", 0.5)
    await store.close()
    await store.open()
    await store.append(drafts(store, 1))
    proxy.mode = Mode.HANG
    sending, looking = asyncio.ensure_future(store.append(drafts(store, 1))), asyncio.ensure_future(store.list_queues())
    await store.clock.sleep(0.2)  # both are on their way
    proxy.mode = Mode.THROUGH  # for new connections: the old ones stay as dead as they are
    async with asyncio.timeout(60):
        await asyncio.gather(sending, looking)
    assert (await store.metrics("jobs")).backlog_messages == 2


async def test_a_listener_that_died_in_silence_listens_again(proxy: Proxy) -> None:
    """Within 30 s: the bell calls itself every 15 s, and waits 5 s for the echo."""
    assert bell.PROBE_S + bell.ECHO_S + bell.PAUSE_S_FIRST < 25, "and 5 s to connect"
    heard: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    address = read_address(the_server().url(proxy.port))
    door = Door(address, emit=lambda _event: None, chance=random.Random(1))
    listener = Bell(door, "conveyor:half-open", heard.put_nowait, probe_s=0.3, echo_s=0.3)
    caller = await asyncpg.connect(the_server().url().partition("?")[0])
    listener.listen()
    async with asyncio.timeout(60):
        await until_heard(caller, heard, "before")
        proxy.mode = Mode.HANG
        await asyncio.wait([asyncio.ensure_future(heard.get())], timeout=1)  # the echo does not come
        proxy.mode = Mode.THROUGH
        await until_heard(caller, heard, "after")
    await listener.close()
    await caller.close()


async def until_heard(caller: asyncpg.Connection[asyncpg.Record], heard: asyncio.Queue[frozenset[str]], name: str) -> None:
    names: set[str] = set()
    while name not in names:
        await caller.execute("SELECT pg_notify('conveyor:half-open', $1)", f"somebody\n{name}")
        with contextlib.suppress(TimeoutError):
            names |= await asyncio.wait_for(heard.get(), timeout=0.1)


async def test_backends_that_are_terminated_again_and_again_cost_nothing(store: PostgresStore) -> None:
    """F27 in small: all of the store's connections, whatever they are at."""
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'conveyor'"
    killer = await asyncpg.connect(the_server().url().partition("?")[0])
    owner = await an_owner(store)
    sent = done = 0
    for _ in range(10):
        sends = [asyncio.ensure_future(store.append([draft])) for draft in drafts(store, 20)]
        await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)
        await killer.execute(cut)
        await asyncio.gather(*sends)
        sent += len(sends)
        try:
            claimed = await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=30))
        except OutcomeUnknownError:
            await store.reconcile(owner, "jobs", [], calls=0)
            continue
        done += len(claimed.leases)
        await store.settle(owner, [Settlement(lease.seq, lease.claim) for lease in claimed.leases])
    metrics = await store.metrics("jobs")
    assert metrics.backlog_messages == sent - done
    assert metrics.leased == 0
    held = await killer.fetchval("SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE application_name = 'conveyor' AND locktype = 'advisory'")
    assert held == 0
    await killer.close()


@pytest.mark.parametrize("state", ["40P01", "40001"])
async def test_transactions_that_others_are_in_the_way_of_are_tried_again(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """F33: one statement in twenty fails."""
    error = {"40P01": asyncpg.DeadlockDetectedError, "40001": asyncpg.SerializationError}[state]
    dice, injected = random.Random(5), itertools.count()
    real = asyncpg.Connection.fetch

    async def failing(self: asyncpg.Connection[asyncpg.Record], query: str, *values: object, **options: object) -> object:
        if dice.random() < 0.05:
            next(injected)
            raise error("injected")
        return await real(self, query, *values, **options)  # type: ignore[call-overload]  # passed through as it came

    monkeypatch.setattr(asyncpg.Connection, "fetch", failing)
    owner = await an_owner(store)
    for _ in range(100):
        await store.append(drafts(store, 2))
        claimed = await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=2))
        await store.settle(owner, [Settlement(lease.seq, lease.claim) for lease in claimed.leases])
    assert next(injected) > 5
    assert (await store.metrics("jobs")).backlog_messages == 0


async def test_a_transaction_that_is_always_in_the_way_is_given_up(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_values: object, **_options: object) -> object:
        raise asyncpg.DeadlockDetectedError("injected")

    monkeypatch.setattr(asyncpg.Connection, "fetch", failing)
    with pytest.raises(StoreBusyError, match="injected"):
        await store.list_queues()
    monkeypatch.undo()


async def test_a_crowded_server_is_shared() -> None:
    """F32: many more processes than connections. Slow, not broken: what one does not use, another takes."""
    with a_server(max_connections="12", superuser_reserved_connections="3") as server:
        admin = await asyncpg.connect(server.url().partition("?")[0])
        await admin.execute("CREATE ROLE shop LOGIN; GRANT CREATE ON DATABASE postgres TO shop")
        await admin.close()
        url = server.url(patience="60").replace("conveyor@", "shop@")
        stores = [PostgresStore(url) for _ in range(20)]
        await asyncio.gather(*(store.open() for store in stores))
        await stores[0].create_queue("jobs", QueueSettings())
        for store in stores:
            store.subscribe(lambda _names: None)
        await asyncio.gather(*(use(store) for store in stores))
        assert (await stores[0].metrics("jobs")).backlog_messages == 0
        await asyncio.gather(*(store.close() for store in stores))


async def use(store: PostgresStore) -> None:
    """As a process does: it sends, and works until there is nothing left."""
    owner = await an_owner(store)
    await asyncio.gather(*(store.append([draft]) for draft in drafts(store, 5)))
    while (claimed := await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=5))).leases:
        await store.settle(owner, [Settlement(lease.seq, lease.claim) for lease in claimed.leases])


async def test_a_store_takes_no_more_connections_than_it_says() -> None:
    """`pool` for calls, one for sends, one for LISTEN and NOTIFY."""
    url = the_server().url(pool="3", application_name="counted")
    store = PostgresStore(url)
    store.subscribe(lambda _names: None)
    await store.open()
    await store.create_queue("jobs", QueueSettings())
    looker = await asyncpg.connect(the_server().url().partition("?")[0])
    most = 0
    for _ in range(10):
        calls: list[asyncio.Future[object]] = [asyncio.ensure_future(store.append([draft])) for draft in drafts(store, 30)]
        calls += [asyncio.ensure_future(store.metrics("jobs")) for _ in range(30)]
        most = max(most, await looker.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'"))
        await asyncio.gather(*calls)
    most = max(most, await looker.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'"))
    assert most == 3 + 1 + 1
    await store.close()
    await looker.close()
