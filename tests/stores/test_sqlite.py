"""What SQLite alone must show: group commit, several processes on one file, the plain path's price, faults of the disk."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from conveyor.model.errors import StoreReadOnlyError, StoreUnsupportedError
from conveyor.model.ids import IdSource
from conveyor.model.message import Draft
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.store.queries import load_migrations
from conveyor.store.records import ClaimRequest, OwnerInfo
from conveyor.store.sqlite import SQLiteStore
from conveyor.store.sqlite import writer as writer_room
from conveyor.store.sqlite.connection import open_connection
from conveyor.testing.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "store.db", clock=clock)
    await store.open()
    await store.create_queue("jobs", QueueSettings())
    yield store
    await store.close()


def drafts(store: SQLiteStore, count: int, **options: object) -> list[Draft]:
    ids = IdSource(store.clock)
    return [Draft(id=ids.new(), queue="jobs", body=b'{"n":1}', **options) for _ in range(count)]  # type: ignore[arg-type]  # tests name real options


async def an_owner(store: SQLiteStore) -> int:
    return await store.register_owner(OwnerInfo(app="test", host=store.host, pid=1, supervisor_pid=1))


async def test_sends_that_gather_share_a_commit(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    commit = writer_room.Writer._commit

    def counted(self: writer_room.Writer, group: list[writer_room.Operation]) -> None:
        groups.append(len(group))
        commit(self, group)

    monkeypatch.setattr(writer_room.Writer, "_commit", counted)
    await asyncio.gather(*(store.append([draft]) for draft in drafts(store, 50)))
    assert sum(groups) == 50
    assert len(groups) < 10


async def test_the_plain_path_runs_a_fixed_number_of_statements(store: SQLiteStore) -> None:
    owner = await an_owner(store)
    await store.append(drafts(store, 1))  # the queue's priority level is known from here on
    statements: list[str] = []
    connection = store._live._connection
    assert connection is not None
    connection.set_profile(lambda text, _ns: statements.append(text.split("(")[0].split(" VALUES")[0].strip()))
    await store.append(drafts(store, 100))
    sending = len(statements)
    claimed = await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=100))
    claiming = len(statements) - sending
    await store.settle(owner, [Settlement(lease.seq, lease.claim) for lease in claimed.leases])
    settling = len(statements) - sending - claiming
    assert len(claimed.leases) == 100
    # send: two inserts a message; a claim: the same few statements however many; an ack: one deletion of a lease each
    assert sending <= 2 * 100 + 10
    assert claiming <= 14
    assert settling <= 100 + 8


async def test_the_plain_path_leaves_no_row_of_features_it_does_not_use(store: SQLiteStore, tmp_path: Path) -> None:
    owner = await an_owner(store)
    await store.append(drafts(store, 10, key="patient-7"))
    await store.claim(ClaimRequest(queue="jobs", owner=owner, limit=5))
    with_rows = {
        table
        for table in (
            *("keyed", "dedupe", "slots", "dead_letters", "purged", "schedules", "runs", "kv"),
            *("rates", "turns", "called"),
        )
        if apsw.Connection(str(tmp_path / "store.db")).execute(f"SELECT 1 FROM {table}").fetchone()
    }
    assert with_rows == set()


async def test_one_process_wakes_another_through_the_file(store: SQLiteStore, tmp_path: Path) -> None:
    woken = asyncio.Event()
    store.subscribe(lambda names: woken.set() if "jobs" in names else None)
    program = (
        "import asyncio, sys\n"
        "from conveyor import Conveyor\n"
        "app = Conveyor('other', url=sys.argv[1])\n"
        "asyncio.run(app.queue('jobs').send({'n': 2}))\n"
    )
    url = f"sqlite:///{tmp_path}/store.db"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, url)
    await asyncio.wait_for(woken.wait(), timeout=60)
    assert await process.wait() == 0
    assert (await store.metrics("jobs")).backlog_messages == 1


async def test_eight_processes_share_the_file_and_lose_nothing(store: SQLiteStore, tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from conveyor import Conveyor\n"
        "app = Conveyor('p', url=sys.argv[1])\n"
        "async def main():\n"
        "    async with app:\n"
        "        for n in range(50): await app.queue('jobs').send({'n': n})\n"
        "asyncio.run(main())\n"
    )
    url = f"sqlite:///{tmp_path}/store.db"
    running = [await asyncio.create_subprocess_exec(sys.executable, "-c", program, url) for _ in range(8)]
    assert [await process.wait() for process in running] == [0] * 8
    assert (await store.metrics("jobs")).backlog_messages == 400


async def test_the_wal_is_bounded(store: SQLiteStore, tmp_path: Path) -> None:
    for _ in range(40):
        body = b'"' + b"x" * 100_000 + b'"'
        ids = IdSource(store.clock)
        await store.append([Draft(id=ids.new(), queue="jobs", body=body) for _ in range(20)])
    checkpointer = store._checkpointer
    assert checkpointer is not None
    assert (tmp_path / "store.db-wal").stat().st_size <= 256_000_000
    assert (tmp_path / "store.db").stat().st_size > 16_000_000  # what was moved out of the WAL


async def test_a_store_that_was_closed_opens_again(store: SQLiteStore) -> None:
    await store.append(drafts(store, 3))
    await store.close()
    await store.open()
    assert (await store.metrics("jobs")).backlog_messages == 3


async def test_a_failed_sync_reopens_the_file_and_looks_for_the_receipt(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = store._live
    real = writer._cursor

    class Failing:
        """Commits, and then says that the disk failed."""

        connection = real.connection

        def execute(self, text: str, *values: object) -> object:
            found = real.execute(text, *values)  # type: ignore[arg-type]  # passed through as it came
            if text == "COMMIT":
                raise apsw.IOError("injected")
            return found

        def executemany(self, text: str, values: object) -> object:
            return real.executemany(text, values)  # type: ignore[arg-type]  # passed through as it came

    monkeypatch.setattr(writer, "_cursor", Failing())
    [sent] = await store.append(drafts(store, 1))
    assert not sent.deduped
    assert (await store.metrics("jobs")).backlog_messages == 1


async def test_an_operation_with_a_bug_fails_alone(store: SQLiteStore) -> None:
    writer = store._live
    bad = writer.submit(lambda tx: 1 // 0)
    good = store.append(drafts(store, 1))
    results = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(results[0], ZeroDivisionError)
    assert (await store.metrics("jobs")).backlog_messages == 1


async def test_a_folder_that_is_missing_is_named_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(StoreUnsupportedError, match="does not exist") as caught:
        await SQLiteStore(tmp_path / "nowhere" / "x.db").open()
    assert "mkdir -p" in caught.value.hint


async def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises((StoreUnsupportedError, StoreReadOnlyError)):
        await SQLiteStore(tmp_path).open()


async def test_an_old_library_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")
    with pytest.raises(StoreUnsupportedError, match=r"3\.40\.1"):
        open_connection(tmp_path / "x.db", writes=True)


async def test_a_newer_schema_is_refused(store: SQLiteStore, tmp_path: Path) -> None:
    await store.close()
    connection = apsw.Connection(str(tmp_path / "store.db"))
    connection.execute("INSERT INTO migrations VALUES (9999, 'later', 'x', 0)")
    connection.close()
    with pytest.raises(StoreUnsupportedError, match="9999"):
        await SQLiteStore(tmp_path / "store.db").open()


async def test_eight_processes_that_open_a_new_file_at_once_make_one_schema(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from conveyor.store.sqlite import SQLiteStore\n"
        "async def main():\n"
        "    store = SQLiteStore(sys.argv[1]); await store.open(); await store.close()\n"
        "asyncio.run(main())\n"
    )
    path = str(tmp_path / "new.db")
    running = [subprocess.Popen([sys.executable, "-c", program, path]) for _ in range(8)]
    assert [process.wait(timeout=60) for process in running] == [0] * 8
    connection = apsw.Connection(path)
    assert connection.execute("SELECT count(*) FROM migrations").fetchone() == (len(load_migrations("sqlite")),)
    assert connection.execute("SELECT count(*) FROM store").fetchone() == (1,)


async def test_hot_statements_walk_their_keys_whatever_the_backlog(store: SQLiteStore, tmp_path: Path) -> None:
    """No statistics are gathered, so a plan cannot depend on them."""
    from conveyor.store.sqlite.transaction import SQL

    connection = apsw.Connection(str(tmp_path / "store.db"))
    for name in (
        *(
            "select_ready",
            "leave_range",
            "end_lease",
            "next_ready_at",
            "has_suspects",
            "find_dedupe",
            "delete_messages",
        ),
        *("select_judged", "head_of_key", "first_of_key", "blocked_of_key", "count_leased_of_key", "read_window", "open_keys"),
        *("next_opening", "open_stale_keys", "sweep_rates", "hear_called", "offer_of_key", "offered_head", "next_of_key", "read_line"),
        *("is_in_line", "end_of_line", "move_in_line", "leave_line"),
        *("sweep_dedupe", "sweep_kv", "aged_ready", "expired_leases", "leases_of_owner"),
    ):
        names = {word for word in re.findall(r":(\w+)", SQL[name])}
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", dict.fromkeys(names, 0))]
        scans = [step for step in plan if step.startswith("SCAN") and step != "SCAN k" and "carray" not in step]
        assert scans == [], f"{name}: {plan}"


async def test_a_consumer_can_be_declared_from_two_processes_at_once(store: SQLiteStore) -> None:
    settings = ConsumerSettings(script="shop", dead_letter_queue="jobs-dlq")
    await asyncio.gather(*(store.declare_consumer("jobs", settings) for _ in range(8)))
    assert (await store.get_queue("jobs")).consumer == settings
