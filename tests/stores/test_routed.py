"""One store made of two: what lies where, what is numbered how, and what goes on while one of them is away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from conveyor.model.beside import ScheduleNotFoundError
from conveyor.model.errors import (
    InvalidMessageError,
    InvalidSettingError,
    InvalidTransactionError,
    StoreAwayError,
    StoreClosedError,
    StoreError,
)
from conveyor.model.settings import QueueSettings
from conveyor.store.postgres import PostgresStore
from conveyor.store.protocol import Store
from conveyor.store.records import OWNER_LEASE_MS, Ending, Swept
from conveyor.store.routed import RoutedStore, part
from conveyor.store.routed.numbers import is_common
from conveyor.store.routing import Routing, place_of
from conveyor.store.sqlite import SQLiteStore
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import (
    a_claim,
    a_consumer,
    a_draft,
    a_firing,
    a_schedule,
    an_ack,
    an_ending,
    an_entry,
    an_owner,
)
from kit.postgres import Server

pytestmark = pytest.mark.anyio

ROUTING = Routing(url="sqlite:///home.db", stores={"far": "sqlite:///far.db"}, routes={"v*": "far"})


def make_routed(home: Store, far: Store) -> RoutedStore:
    return RoutedStore(ROUTING, {"home": home, "far": far})


@asynccontextmanager
async def opened(store: RoutedStore) -> AsyncIterator[RoutedStore]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[RoutedStore]:
    """`home` and `far`, with the queue `mail` at home and `video` far."""
    files = (SQLiteStore(tmp_path / f"{name}.db", clock=clock) for name in ("home", "far"))
    async with opened(make_routed(*files)) as store:
        for queue in ("mail", "video"):
            await store.declare_consumer(queue, a_consumer(dead_letter_queue=f"{queue}-dlq"))
        yield store


async def until(holds: Callable[[], bool]) -> None:
    """The loop turns until it is so; the test's own timeout ends it otherwise."""
    while not holds():
        await asyncio.sleep(0.01)  # noqa: TID251 a real server's time


# What lies where


async def test_each_queue_lies_in_one_store_with_its_dead_letters(store: RoutedStore) -> None:
    assert [info.name for info in await store.parts["home"].list_queues()] == ["mail", "mail-dlq"]
    assert [info.name for info in await store.parts["far"].list_queues()] == ["video", "video-dlq"]
    assert [info.name for info in await store.list_queues()] == ["mail", "mail-dlq", "video", "video-dlq"]
    assert store.at("video-2") is store.parts["far"] and store.at("other").name == "home"


async def test_a_queue_that_was_routed_elsewhere_before_is_not_listed_twice(store: RoutedStore) -> None:
    await store.parts["home"].create_queue("video", QueueSettings())
    assert [info.name for info in await store.list_queues()] == ["mail", "mail-dlq", "video", "video-dlq"]


async def test_kv_lies_at_home(store: RoutedStore) -> None:
    await store.kv_put("PALETTE", an_entry())
    assert await store.parts["home"].kv_get("PALETTE", "colour") == an_entry()
    assert await store.parts["far"].kv_get("PALETTE", "colour") is None


async def test_a_schedule_lies_with_its_queue_and_is_found_by_its_name(store: RoutedStore) -> None:
    draft = a_schedule(queue="video")
    await store.declare_schedule(draft, 1_000)
    await store.declare_schedule(a_schedule(name="daily", queue="mail"), 1_000)
    await store.fire(a_firing(message=a_draft(queue="video")))
    assert [each.draft for each in await store.parts["far"].list_schedules()] == [draft]
    assert [each.draft.name for each in await store.list_schedules()] == ["daily", "nightly"]
    await store.pause_schedule("nightly")
    assert (await store.get_schedule("nightly")).paused
    assert [run.tick for run in await store.list_runs("nightly", limit=5)] == [1_000]
    with pytest.raises(ScheduleNotFoundError):
        await store.get_schedule("weekly")


async def test_a_batch_for_two_stores_is_refused_whole(store: RoutedStore) -> None:
    with pytest.raises(InvalidMessageError, match="one batch goes to one store"):
        await store.append([a_draft(queue="mail"), a_draft(queue="video")])
    assert await store.peek("mail", limit=10) == await store.peek("video", limit=10) == []


async def test_a_consumer_whose_dead_letters_lie_elsewhere_is_refused(store: RoutedStore) -> None:
    for wrong in (a_consumer(dead_letter_queue="graves"), a_consumer(dead_letter_queue=None, alert_queue="alerts")):
        for act in (store.declare_consumer, store.put_consumer):
            with pytest.raises(InvalidSettingError, match="lives in store `home`"):
                await act("video-9", wrong)
    assert "video-9" not in [info.name for info in await store.list_queues()]


# Numbers


async def test_messages_of_two_stores_have_numbers_of_their_own(store: RoutedStore) -> None:
    owner = await store.register_owner(an_owner())
    leases = []
    for queue in ("mail", "video"):
        await store.append([a_draft(queue=queue)])
        leases += (await store.claim(a_claim(owner=owner, queue=queue))).leases
    mail, video = leases
    assert mail.seq < 2**48 < video.seq and video.seq >> 48 == place_of("far")
    assert [each.seq for each in await store.peek("video", limit=5)] == [video.seq]
    assert await store.peek("video", limit=5, after_seq=video.seq) == []
    settled = await store.settle(owner, [an_ack(mail), an_ack(video)])
    assert settled.lost == []
    assert [(await store.metrics(queue)).backlog_messages for queue in ("mail", "video")] == [0, 0]


async def test_an_owner_has_one_number_in_both_and_is_listed_once(store: RoutedStore) -> None:
    owner = await store.register_owner(an_owner())
    for each in store.parts.values():
        assert [row.owner for row in await each.list_owners()] == [owner]
    (row,) = await store.list_owners()
    assert (row.owner, row.info) == (owner, an_owner())


async def test_an_owner_of_one_store_alone_is_no_other_s(
    store: RoutedStore, tmp_path: Path, clock: ManualClock
) -> None:
    numbers = []
    for name in ("home", "far"):  # two apps that know no routes, each with the first number of its file
        alone = SQLiteStore(tmp_path / f"{name}.db", clock=clock)
        await alone.open()
        numbers.append(await alone.register_owner(an_owner(app=name)))
        await alone.close()
    assert numbers == [1, 1]
    rows = {row.info.app: row.owner for row in await store.list_owners()}
    assert len(set(rows.values())) == 2 and not any(map(is_common, rows.values()))
    await store.reap_owner(rows["far"], an_ending(Ending.LOST))
    assert [row.info.app for row in await store.list_owners()] == ["home"]
    assert await store.renew_owners([rows["home"], rows["far"]]) == [rows["far"]]


async def test_a_death_while_handlers_of_two_stores_ran_is_proof_against_neither(store: RoutedStore) -> None:
    owner = await store.register_owner(an_owner())
    seqs = []
    for queue in ("mail", "video"):
        await store.append([a_draft(queue=queue)])
        seqs += [lease.seq for lease in (await store.claim(a_claim(owner=owner, queue=queue))).leases]
    reaped = await store.reap_owner(owner, an_ending(Ending.CRASHED, started=frozenset(seqs)))
    assert sorted(reaped.suspects) == sorted(seqs) and reaped.failed == []


async def test_a_culprit_is_found_in_its_store(store: RoutedStore) -> None:
    owner = await store.register_owner(an_owner())
    for queue in ("mail", "video"):
        await store.append([a_draft(queue=queue)])
    (mail,) = (await store.claim(a_claim(owner=owner, queue="mail"))).leases
    (video,) = (await store.claim(a_claim(owner=owner, queue="video"))).leases
    started = frozenset({mail.seq, video.seq})
    reaped = await store.reap_owner(owner, an_ending(Ending.TIMED_OUT, started=started, culprit=video.seq))
    assert (reaped.failed, reaped.released) == ([video.seq], [mail.seq])


# The user's transaction


async def test_tx_joins_the_store_of_the_queue_and_no_other(store: RoutedStore, tmp_path: Path) -> None:
    owner = await store.register_owner(an_owner())
    await store.append([a_draft(queue="video")])
    (lease,) = (await store.claim(a_claim(owner=owner, queue="video"))).leases
    connection = apsw.Connection(str(tmp_path / "far.db"))
    with connection:
        joined = store.join(connection)
        assert await joined.get_settings("video") == QueueSettings()
        await joined.append([a_draft(queue="video")])
        await joined.ack(owner, lease)
        with pytest.raises(InvalidTransactionError, match=r"home\.db") as caught:
            await joined.append([a_draft(queue="mail")])
        assert "queue `mail` lives in store `home`" in caught.value.hint
    connection.close()
    (left,) = await store.peek("video", limit=5)
    assert left.id != lease.id


# One of them away


@pytest.fixture
def late(tmp_path: Path, clock: ManualClock) -> RoutedStore:
    """Its far file lies in a folder that is not there yet."""
    far = SQLiteStore(tmp_path / "missing" / "far.db", clock=clock)
    return make_routed(SQLiteStore(tmp_path / "home.db", clock=clock), far)


async def test_a_store_that_cannot_be_opened_keeps_nobody_else_away(
    late: RoutedStore, tmp_path: Path, clock: ManualClock
) -> None:
    woken: list[str] = []
    async with opened(late) as store:
        store.subscribe(woken.extend)
        await store.create_queue("mail", QueueSettings())
        await store.append([a_draft(queue="mail")])
        with pytest.raises(StoreAwayError, match="mkdir -p .*missing"):
            await store.append([a_draft(queue="video")])
        with pytest.raises(StoreAwayError):
            await store.get_schedule("nightly")  # it may lie there
        (tmp_path / "missing").mkdir()
        await clock.advance(1)
        await store.create_queue("video", QueueSettings())
        await store.append([a_draft(queue="video")])
        await until(lambda: "video" in woken)
    with pytest.raises(StoreClosedError):
        await late.append([a_draft(queue="video")])


async def test_an_owner_that_began_while_a_store_was_away_is_registered_there_with_its_next_renewal(
    late: RoutedStore, tmp_path: Path, clock: ManualClock
) -> None:
    async with opened(late) as store:
        owner = await store.register_owner(an_owner())
        assert await store.renew_owners([owner]) == []
        (tmp_path / "missing").mkdir()
        await clock.advance(1)
        await store.create_queue("video", QueueSettings())
        await store.append([a_draft(queue="video")])
        assert (await store.claim(a_claim(owner=owner, queue="video"))).leases == []
        assert await store.renew_owners([owner]) == []
        assert len((await store.claim(a_claim(owner=owner, queue="video"))).leases) == 1
        assert [row.info for row in await store.parts["far"].list_owners()] == [an_owner()]


async def test_where_all_are_away_it_cannot_be_opened(tmp_path: Path) -> None:
    store = make_routed(*(SQLiteStore(tmp_path / name / "x.db") for name in ("missing", "absent")))
    with pytest.raises(StoreError, match="missing"):
        await store.open()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A PostgreSQL of this test's own, to be stopped."""
    server = Server()
    server.initialize()
    server.start()
    yield server
    server.remove()


async def test_a_server_that_stops_takes_its_own_queues_along_and_buries_nobody_when_it_is_back(
    server: Server, tmp_path: Path, clock: ManualClock
) -> None:
    routed = make_routed(
        SQLiteStore(tmp_path / "home.db", clock=clock), PostgresStore(server.url(patience="1"), clock=clock)
    )
    async with opened(routed) as store:
        for queue in ("mail", "video"):
            await store.create_queue(queue, QueueSettings())
            await store.append([a_draft(queue=queue)])
        living, dying = [await store.register_owner(an_owner(pid=pid)) for pid in (1, 2)]
        (lease,) = (await store.claim(a_claim(owner=dying, queue="video"))).leases
        assert await store.renew_owners([living, dying]) == []
        server.stop("fast")
        with pytest.raises(StoreError):
            await store.append([a_draft(queue="video")])
        ending = an_ending(Ending.CRASHED, started=frozenset({lease.seq}), detail="killed by signal 9")
        assert (await store.reap_owner(dying, ending)).failed == []
        assert await store.renew_owners([living]) == []  # home goes on
        await clock.advance(OWNER_LEASE_MS / 1_000 + 1)
        await store.append([a_draft(queue="mail")])
        assert await store.renew_owners([living]) == []
        assert [row.owner for row in await store.list_owners()] == [living]
        server.start()
        await store.sweep()  # the lease of the living is over there, and it has not had the time to say so
        assert [row.owner for row in await store.parts["far"].list_owners()] == [living]
        (seen,) = await store.peek("video", limit=5)
        assert not seen.leased, "what could not be reaped is reaped before anything else"
        assert await store.renew_owners([living]) == []
        assert (await store.sweep()) == Swept()


async def test_a_store_that_takes_its_time_to_open_keeps_nobody_waiting(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "PATIENCE_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes the connection, and never says a word
        url = f"postgresql://somebody@127.0.0.1:{silent.getsockname()[1]}/postgres"
        routed = make_routed(SQLiteStore(tmp_path / "home.db", clock=clock), PostgresStore(url))
        async with opened(routed) as store:
            await store.create_queue("mail", QueueSettings())
            with pytest.raises(StoreAwayError, match="did not answer"):
                await store.append([a_draft(queue="video")])


async def test_a_store_that_hangs_holds_up_no_renewal_at_home(
    store: RoutedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "PATIENCE_S", 0.05)
    owner = await store.register_owner(an_owner())
    locker = apsw.Connection(str(tmp_path / "far.db"))
    locker.execute("BEGIN IMMEDIATE")
    before = (await store.parts["home"].list_owners())[0].lease_until
    for _ in range(3):
        clock = store.clock
        assert isinstance(clock, ManualClock)
        await clock.advance(1)
        assert await store.renew_owners([owner]) == []
        await store.sweep()
    assert (await store.parts["home"].list_owners())[0].lease_until == before + 3_000
    locker.execute("ROLLBACK")
    locker.close()
