"""What PostgreSQL alone must show: group commit, many stores on one schema, broken connections, the plain path's price."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest

from conveyor import Conveyor, Message
from conveyor.model.clock import SystemClock
from conveyor.model.errors import (
    InvalidSettingError,
    QueueFullError,
    StoreAwayError,
    StoreError,
    StoreUnsupportedError,
)
from conveyor.model.rate import Rate
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.postgres import PostgresStore, outbox
from conveyor.store.postgres.migrating import enter_schema, migrate
from conveyor.store.postgres.opening import Address, dial, read_address
from conveyor.store.postgres.outbox import read_store_id
from conveyor.store.postgres.transaction import Connection, Transaction
from conveyor.store.records import ClaimRequest
from conveyor.testing.clock import ManualClock
from kit.postgres import the_server
from kit.scene import Scene, an_owner, drafts

pytestmark = pytest.mark.anyio

STORES = 4


@pytest.fixture
def url() -> str:
    return the_server().url()


@pytest.fixture
async def store(url: str, clock: ManualClock) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url, clock=clock)
    await store.open()
    await store.create_queue("jobs", QueueSettings())
    yield store
    await store.close()


@pytest.fixture
async def stores(url: str) -> AsyncIterator[list[PostgresStore]]:
    """As many processes would be, on the database's own clock."""
    stores = [PostgresStore(url) for _ in range(STORES)]
    await asyncio.gather(*(store.open() for store in stores))
    yield stores
    await asyncio.gather(*(store.close() for store in stores))


async def look_inside(url: str, query: str) -> list[asyncpg.Record]:
    address = read_address(url)
    connection = await asyncpg.connect(address.dsn, server_settings={"search_path": address.schema})
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


async def test_a_fork_of_whoever_has_opened_it_asks_for_nothing_until_it_is_used(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, dials = Conveyor("shop", url=url), list[str]()

    @app.consumer("jobs")
    async def handle(message: Message[int]) -> None: ...

    async def counted(place: str, address: Address) -> Connection:
        dials.append(place)
        return await dial(place, address)

    await app.open_once()
    assert {"jobs"} <= {name for (name,) in await look_inside(url, "SELECT name FROM queues")}
    monkeypatch.setattr("conveyor.store.postgres.door.dial", counted)
    monkeypatch.setattr("os.getpid", lambda: 1)  # what a fork sees: all that was there, and another number
    async with app:
        assert (dials, dict(app.secrets)) == ([], {})
        assert abs(app.store.clock.now_ms() - SystemClock().now_ms()) < 60_000
        await app.queue("jobs").send(1)
        assert len(dials) > 0
        assert (await app.queue("jobs").metrics()).backlog_messages == 1
    monkeypatch.undo()
    monkeypatch.setattr("conveyor.store.postgres.door.dial", counted)
    dials.clear()
    async with app:
        assert dials, "the process itself looks again"


async def test_sends_that_gather_share_a_commit(store: PostgresStore, url: str) -> None:
    await store.append(drafts(store, 1))
    before = await look_inside(url, "SELECT count(*) FROM counters")
    await asyncio.gather(*(store.append([draft]) for draft in drafts(store, 50)))
    after = await look_inside(url, "SELECT count(*) FROM counters")
    assert (await store.metrics("jobs")).backlog_messages == 51
    assert after[0][0] - before[0][0] < 10


@pytest.mark.parametrize(("key", "commits"), [(None, 2), ("patient-7", 1)])
async def test_a_large_group_is_two_commits_unless_its_order_means_something(
    store: PostgresStore, url: str, key: str | None, commits: int
) -> None:
    await store.append(drafts(store, 1))
    before = await look_inside(url, "SELECT count(*) FROM counters WHERE messages > 1")
    await asyncio.gather(*(store.append(drafts(store, 100, key=key)) for _ in range(8)))
    after = await look_inside(url, "SELECT count(*) FROM counters WHERE messages > 1")
    assert (await store.metrics("jobs")).backlog_messages == 801
    assert after[0][0] - before[0][0] == commits


async def test_the_plain_path_is_one_round_trip_each(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = await an_owner(store)
    for _ in range(3):  # the queue's priority level, then the queues, then the depth are known from here on
        await store.append(drafts(store, 1))
    queries: list[str] = []
    for verb in ("fetch", "fetchrow", "execute", "executemany"):
        original = getattr(asyncpg.Connection, verb)

        def counted(
            self: object, query: str, *values: object, original: object = original, **options: object
        ) -> object:
            queries.append(query)
            return original(self, query, *values, **options)  # type: ignore[operator]  # a method of the class

        monkeypatch.setattr(asyncpg.Connection, verb, counted)
    await store.append(drafts(store, 100))
    claimed = await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=100))
    settled = await store.settle(owner, [Settlement(lease.seq, lease.claim) for lease in claimed.leases])
    assert len(claimed.leases) == 100
    assert settled.lost == []
    beside = re.compile("pg_notify|pg_stat_activity|pg_is_in_recovery|idle_in_transaction")  # the bell, a look for a crowd
    spoken = [re.search(r"FROM \S+\.(\w+)\(", query) for query in queries if not beside.search(query)]
    assert [call and call[1] for call in spoken] == ["append_plain", "claim_plain", "ack_plain"]


async def test_the_plain_path_leaves_no_row_of_features_it_does_not_use(store: PostgresStore, url: str) -> None:
    owner = await an_owner(store)
    await store.append(drafts(store, 10, key="patient-7"))
    await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=5))
    for table in (
        *("keyed", "dedupe", "slots", "dead_letters", "purged", "schedules", "runs", "kv", "rates", "turns", "called"),
    ):
        assert await look_inside(url, f"SELECT 1 FROM {table}") == []


async def test_one_store_wakes_another(stores: list[PostgresStore]) -> None:
    here, there, *_ = stores
    await here.create_queue("jobs", QueueSettings())
    heard: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    there.subscribe(heard.put_nowait)
    await until_heard(here, heard)


async def until_heard(store: PostgresStore, heard: asyncio.Queue[frozenset[str]]) -> None:
    names: set[str] = set()
    async with asyncio.timeout(60):
        while "jobs" not in names:  # LISTEN begins in the background
            await store.append(drafts(store, 1))
            with contextlib.suppress(TimeoutError):
                names |= await asyncio.wait_for(heard.get(), timeout=0.05)


async def test_what_another_store_puts_back_is_found_at_once(stores: list[PostgresStore]) -> None:
    """Though claims here have gone past its place, and what lies behind it would keep them busy."""
    here, there, *_ = stores
    await here.create_queue("jobs", QueueSettings())
    heard: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    here.subscribe(heard.put_nowait)
    await until_heard(there, heard)
    await here.purge("jobs")
    await there.append(drafts(there, 9))
    ours, theirs = await an_owner(here), await an_owner(there)
    [first] = (await there.claim(ClaimRequest(queue="jobs", owner=theirs, limit=1))).leases
    for _ in range(2):
        assert (await here.claim(ClaimRequest(queue="jobs", owner=ours, limit=1))).leases[0].seq > first.seq
    await there.create_queue("last", QueueSettings())
    await there.append([msgspec.structs.replace(draft, queue="last") for draft in drafts(there, 1)])
    while "last" not in await asyncio.wait_for(heard.get(), timeout=60):
        pass  # what the sends before have said
    await there.settle(theirs, [Settlement(first.seq, first.claim, Action.RELEASE)])
    assert await asyncio.wait_for(heard.get(), timeout=60) == {"jobs"}
    [again] = (await here.claim(ClaimRequest(queue="jobs", owner=ours, limit=1))).leases
    assert again.seq == first.seq


@pytest.mark.parametrize(
    "consumer",
    [
        {}, {"ordered": True}, {"key_concurrency": 2}, {"max_concurrency": 5}, {"fair": True},
        {"rate": Rate(60, 1_000), "key_rate": Rate(30, 1_000)}, {"fair": True, "ordered": True, "key_rate": Rate(30, 1_000)},
    ],
    ids=["plain", "ordered", "keyed", "limited", "fair", "rated", "all of keys"],
)
@pytest.mark.timeout(300)
async def test_many_stores_at_once_lose_nothing_and_lease_nothing_twice(
    stores: list[PostgresStore], consumer: dict[str, object]
) -> None:
    settings = ConsumerSettings(script="shop", dead_letter_queue="dead", max_retries=100, **consumer)  # type: ignore[arg-type]  # tests name real settings
    await stores[0].declare_consumer("jobs", settings)
    scene = Scene(settings)
    senders = [scene.send(store, seed) for seed, store in enumerate(stores)]
    workers = [scene.work(store, seed) for seed, store in enumerate([*stores, *stores])]
    try:
        async with asyncio.timeout(240):
            await asyncio.gather(*senders, *workers)
    except TimeoutError:
        raise AssertionError((await stores[0].metrics("jobs"), await stores[0].peek("jobs", limit=5))) from None
    assert scene.done == scene.sent
    metrics = await stores[0].metrics("jobs")
    assert (metrics.backlog_messages, metrics.backlog_bytes, metrics.leased) == (0, 0, 0)
    assert (await stores[0].metrics("dead")).backlog_messages == 0


async def test_a_dedupe_key_sent_by_all_at_once_counts_once(stores: list[PostgresStore]) -> None:
    await stores[0].create_queue("jobs", QueueSettings())
    sends = [store.append(drafts(store, 1, dedupe=f"k{n}")) for n in range(10) for store in stores]
    answers = await asyncio.gather(*sends)
    assert sum(not sent.deduped for (sent,) in answers) == 10
    assert (await stores[0].metrics("jobs")).backlog_messages == 10


async def test_a_depth_limit_holds_for_all_at_once(stores: list[PostgresStore]) -> None:
    await stores[0].create_queue("jobs", QueueSettings(max_backlog_messages=25))
    sends = [store.append(drafts(store, 2)) for _ in range(10) for store in stores]
    answers = await asyncio.gather(*sends, return_exceptions=True)
    assert (await stores[0].metrics("jobs")).backlog_messages == 24
    assert {type(answer) for answer in answers if not isinstance(answer, list)} == {QueueFullError}


async def test_purges_beside_sends_leave_no_orphans(stores: list[PostgresStore], url: str) -> None:
    await stores[0].create_queue("jobs", QueueSettings())
    work = [store.append(drafts(store, 3)) for _ in range(20) for store in stores]
    purges = [store.purge("jobs") for store in stores for _ in range(5)]
    await asyncio.gather(*work, *purges)
    await stores[0].purge("jobs")
    while (await stores[0].sweep()).total:
        pass
    for table in ("messages", "ready", "leased", "purged"):
        assert await look_inside(url, f"SELECT 1 FROM {table}") == []
    assert await look_inside(url, "SELECT 1 FROM counters HAVING coalesce(sum(messages), 0) <> 0") == []


async def test_connections_that_are_cut_are_made_anew(stores: list[PostgresStore], url: str) -> None:
    store = stores[0]
    await store.create_queue("jobs", QueueSettings())
    await store.append(drafts(store, 3))
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'conveyor'"
    )
    await look_inside(url, cut)
    await store.append(drafts(store, 4))
    assert (await store.metrics("jobs")).backlog_messages == 7


@pytest.mark.parametrize("committed", [True, False])
async def test_a_lost_commit_is_looked_up_by_its_receipt(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    real = asyncpg.Connection.execute
    cuts = iter([True])

    async def cutting(self: asyncpg.Connection[asyncpg.Record], query: str, *values: object, **options: object) -> str:
        if query == "COMMIT" and next(cuts, False):
            if committed:
                await real(self, query)
            self.terminate()
            raise ConnectionResetError("injected")
        return await real(self, query, *values, **options)  # type: ignore[arg-type]  # passed through as it came

    monkeypatch.setattr(asyncpg.Connection, "execute", cutting)
    [sent] = await store.append(drafts(store, 1))
    assert not sent.deduped
    assert (await store.metrics("jobs")).backlog_messages == 1


async def test_a_statement_of_what_is_held_waits_for_a_claim_on_its_way(store: PostgresStore, url: str) -> None:
    owner = await an_owner(store)
    await store.append(drafts(store, 1))
    address = read_address(url)
    lost = await asyncpg.connect(address.dsn, server_settings={"search_path": address.schema})
    try:
        async with lost.transaction():  # as `claim_plain` does it; its caller waits no longer
            await lost.execute(f"SELECT 1 FROM owners WHERE owner = {owner} FOR KEY SHARE")
            await lost.execute(
                "WITH taken AS (DELETE FROM ready RETURNING lane, seq) "
                "INSERT INTO leased (owner, seq, lane, claims, releases, crashes, suspect, size) "
                f"SELECT {owner}, seq, lane, 1, 0, 0, false, 7 FROM taken"
            )
            stating = asyncio.create_task(store.reconcile(owner, "jobs", [], calls=0))
            while not await look_inside(url, "SELECT 1 FROM pg_locks WHERE NOT granted"):
                assert not stating.done()
    finally:
        await lost.close()
    assert await stating == 1
    assert len((await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=1))).leases) == 1


async def test_a_cancelled_caller_neither_withdraws_its_send_nor_breaks_the_store(store: PostgresStore) -> None:
    for _ in range(10):
        sending = asyncio.ensure_future(store.append(drafts(store, 1)))
        looking = asyncio.ensure_future(store.metrics("jobs"))
        await store.get_queue("jobs")  # both are on their way
        sending.cancel()
        looking.cancel()
    await store.append(drafts(store, 1))
    assert (await store.metrics("jobs")).backlog_messages == 11


async def test_a_draft_that_the_database_refuses_fails_alone(store: PostgresStore) -> None:
    good, bad = drafts(store, 1), drafts(store, 1, key="half \0")
    results = await asyncio.gather(store.append(bad), store.append(good), return_exceptions=True)
    assert isinstance(results[0], StoreError)
    assert (await store.metrics("jobs")).backlog_messages == 1


async def test_it_works_without_prepared_statements(clock: ManualClock) -> None:
    """As behind a pooler that hands each transaction to another session."""
    store = PostgresStore(the_server().url(statement_cache_size="0", pool="1"), clock=clock)
    await store.open()
    await store.create_queue("jobs", QueueSettings())
    await store.append(drafts(store, 3))
    owner = await an_owner(store)
    claimed = await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=3))
    await store.settle(owner, [Settlement(lease.seq, lease.claim) for lease in claimed.leases])
    assert (await store.metrics("jobs")).backlog_messages == 0
    await store.close()


async def test_a_store_that_was_closed_opens_again(store: PostgresStore) -> None:
    await store.append(drafts(store, 3))
    await store.close()
    await store.open()
    assert (await store.metrics("jobs")).backlog_messages == 3


async def test_a_newer_schema_is_refused(store: PostgresStore, url: str) -> None:
    await look_inside(url, "INSERT INTO migrations (number, name, checksum) VALUES (9999, 'later', 'x')")
    with pytest.raises(StoreUnsupportedError, match="9999"):
        await PostgresStore(url).open()


async def test_an_opening_that_is_cancelled_leaves_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the heartbeat of a worker that ends before it has begun."""
    url = the_server().url(application_name="cancelled")
    store = PostgresStore(url)
    store.subscribe(lambda _names: None)
    reached, answered = asyncio.Event(), asyncio.Event()

    async def slow(tx: Transaction) -> bytes:
        reached.set()
        await answered.wait()
        return await read_store_id(tx)

    monkeypatch.setattr(outbox, "read_store_id", slow)
    opening = asyncio.create_task(store.open())
    await reached.wait()
    opening.cancel()
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    while await look_inside(the_server().url(), "SELECT 1 FROM pg_stat_activity WHERE application_name = 'cancelled'"):
        await store.clock.sleep(0.01)


async def test_stores_that_open_a_new_schema_at_once_make_it_once(url: str) -> None:
    stores = [PostgresStore(url) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.close() for store in stores))
    assert len(await look_inside(url, "SELECT 1 FROM store")) == 1


@pytest.mark.parametrize("query", ["schema=", "pool=0", "pool=many", "statement_cache_size=-1", "pooler=perhaps", "patience=-1"])
def test_a_parameter_that_makes_no_sense_is_refused(query: str) -> None:
    with pytest.raises(InvalidSettingError):
        PostgresStore(f"postgresql://localhost/db?{query}")


async def test_no_server_is_a_store_error_without_the_password() -> None:
    with pytest.raises(StoreAwayError) as caught:
        await PostgresStore("postgresql://someone:secret@127.0.0.1:1,127.0.0.1:2/db?patience=0").open()
    assert "secret" not in str(caught.value)


async def test_the_server_gives_up_on_statements_of_those_that_are_dead() -> None:
    address = msgspec.structs.replace(read_address(the_server().url()), pooler=False)
    connection = await dial(address.places[0], address)
    try:
        assert await connection.fetchval("SHOW statement_timeout") == "30s"
        await migrate(connection, address)  # and takes the time that it needs
        assert await connection.fetchval("SHOW statement_timeout") == "30s"
        await connection.execute("SET statement_timeout TO '300ms'")
        with pytest.raises(asyncpg.QueryCanceledError):
            await connection.execute("SELECT pg_sleep(5)")
        async with connection.transaction():
            await enter_schema(connection, address.schema)
            assert await connection.fetchval("SHOW statement_timeout") == "0"
    finally:
        await connection.close()


async def test_a_sweep_of_jobs_goes_on_where_the_last_one_ended(store: PostgresStore, url: str) -> None:
    """What is gone is not walked past again; and nothing stays, also what would have come earlier."""
    insert = (
        "INSERT INTO jobs (id, name, queue, state, enqueued_at, started_at, attempts, worker, expires_at) "
        "SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), 'count', 'jobs', 'succeeded', 0, 0, 1, 'w', n FROM generate_series({}, {}) n"
    )
    await look_inside(url, insert.format(2, 2_001))
    assert (await store.sweep()).jobs == 1_000
    await look_inside(url, insert.format(1, 1))
    assert [(await store.sweep()).jobs for _ in range(3)] == [1_000, 1, 0]
    assert (await look_inside(url, "SELECT count(*) FROM jobs"))[0][0] == 0


async def test_a_sweep_of_dedupe_keys_goes_on_where_the_last_one_ended(store: PostgresStore, url: str) -> None:
    """Also when it takes few; and nothing stays, also what came late."""
    insert = (
        "INSERT INTO dedupe (lane, key, seq, id, until) "
        "SELECT 1, 'key ' || n, 0, decode(lpad(to_hex(n), 32, '0'), 'hex'), n FROM generate_series({}, {}) n"
    )
    await look_inside(url, insert.format(10, 1_014))
    assert [(await store.sweep()).dedupe_keys for _ in range(2)] == [1_000, 5]
    await look_inside(url, insert.format(1, 1))  # its message outlived its window
    await look_inside(url, insert.format(2_000, 2_000))
    assert [(await store.sweep()).dedupe_keys for _ in range(3)] == [1, 1, 0], "the later one first"
    await look_inside(url, insert.format(2, 2))
    for number in range(3_000, 3_060):  # there is always something to take
        await look_inside(url, insert.format(number, number))
        await store.sweep()
    assert (await look_inside(url, "SELECT count(*) FROM dedupe WHERE until = 2"))[0][0] == 0
