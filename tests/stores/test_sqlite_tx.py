"""Sends and acks inside the user's own transaction on the same SQLite file: F13, and what is refused there."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from conveyor import BodyTooLargeError, Conveyor, Outgoing, QueueFullError, QueueNotFoundError
from conveyor.model.errors import InvalidTransactionError, StoreBusyError, StoreClosedError, StoreError
from conveyor.model.settings import ConsumerSettings
from conveyor.store.memory import MemoryStore
from conveyor.store.records import ClaimRequest, OwnerInfo
from conveyor.testing.clock import ManualClock
from kit.borrowed import bodies, connect

pytestmark = pytest.mark.anyio


# Sending


async def test_a_message_is_there_only_after_the_commit(app: Conveyor, user: apsw.Connection) -> None:
    reader = connect(Path(user.filename).parent)
    user.execute("BEGIN IMMEDIATE")
    sent = await app.queue("jobs").send({"n": 1}, tx=user)
    assert reader.execute("SELECT count(*) FROM messages").get == 0
    user.execute("COMMIT")
    [found] = await app.store.peek("jobs", limit=10)
    assert (found.id.hex(), found.body) == (sent.id, b'{"n":1}')
    assert (await app.queue("jobs").metrics()).backlog_messages == 1


async def test_a_rollback_takes_the_message_and_its_count_with_it(app: Conveyor, user: apsw.Connection) -> None:
    user.execute("BEGIN IMMEDIATE")
    await app.queue("jobs").send(1, tx=user)
    user.execute("ROLLBACK")
    assert await bodies(app) == []
    assert (await app.queue("jobs").metrics()).backlog_messages == 0


async def test_a_savepoint_that_is_rolled_back_drops_its_messages_alone(app: Conveyor, user: apsw.Connection) -> None:
    with user:  # apsw's own: a savepoint that becomes the transaction
        await app.queue("jobs").send(1, tx=user)
        with contextlib.suppress(KeyError), user:
            await app.queue("jobs").send(2, tx=user)
            raise KeyError
        await app.queue("jobs").send_batch([3, 4], tx=user)
    assert await bodies(app) == [b"1", b"3", b"4"]
    assert (await app.queue("jobs").metrics()).backlog_messages == 3


@pytest.mark.parametrize("seed", range(4))
async def test_a_thousand_random_ends_leave_no_phantom_and_lose_nothing(
    app: Conveyor, user: apsw.Connection, seed: int
) -> None:
    dice = random.Random(seed)
    expected: set[int] = set()
    user.pragma("synchronous", 0)
    for turn in range(250):
        numbers = list(range(turn * 10, turn * 10 + dice.randint(1, 4)))
        user.execute(dice.choice(["BEGIN IMMEDIATE", "BEGIN", "SAVEPOINT mine"]))
        for number in numbers:
            user.execute("INSERT INTO orders VALUES (?)", (number,))
            await app.queue("jobs").send(number, tx=user, priority=dice.choice([None, 2, 8]))
        if dice.random() < 0.3:
            await _raise_inside(app, user)
        is_kept = dice.random() < 0.5
        user.execute("COMMIT" if is_kept else "ROLLBACK")
        if is_kept:
            expected |= set(numbers)
        if dice.random() < 0.1:
            await app.queue("once").send(turn)  # the writer's own commits come between
    assert sorted(int(body) for body in await bodies(app)) == sorted(expected)
    assert {n for (n,) in user.execute("SELECT n FROM orders")} == expected
    assert (await app.queue("jobs").metrics()).backlog_messages == len(expected)


async def _raise_inside(app: Conveyor, user: apsw.Connection) -> None:
    with pytest.raises(QueueNotFoundError):
        await app.queue("none").send(1, tx=user)


KILLED = """
import asyncio, os, signal, sys
import apsw
from conveyor import Conveyor

app = Conveyor("shop", url=f"sqlite:///{sys.argv[1]}/store.db")
app.declare_queue("jobs")

async def main():
    async with app:
        user = apsw.Connection(f"{sys.argv[1]}/store.db")
        user.set_busy_timeout(20_000)
        for n in range(int(sys.argv[2]) + 1):
            user.execute("BEGIN IMMEDIATE")
            user.execute("INSERT INTO orders VALUES (?)", (n,))
            await app.queue("jobs").send(n, tx=user)
            if n == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            user.execute("COMMIT")

asyncio.run(main())
"""


@pytest.mark.parametrize("commits", [0, 1, 3])
async def test_a_kill_between_send_and_commit_leaves_nothing_of_it(
    app: Conveyor, user: apsw.Connection, commits: int
) -> None:
    folder = Path(user.filename).parent
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(folder), str(commits))
    assert await process.wait() == -signal.SIGKILL
    assert await bodies(app) == [str(n).encode() for n in range(commits)]
    assert [n for (n,) in user.execute("SELECT n FROM orders")] == list(range(commits))
    await app.queue("jobs").send("after")  # the lock died with its holder


async def test_options_keys_and_levels_are_those_of_a_plain_send(app: Conveyor, user: apsw.Connection) -> None:
    await app.store.put_consumer("jobs", ConsumerSettings(ordered=True))
    user.execute("BEGIN IMMEDIATE")
    items = [Outgoing(n, key="k", priority=n, headers={"n": n}, delay=0) for n in (1, 9)]
    await app.queue("jobs").send_batch([*items, Outgoing("late", delay="1h")], tx=user)
    user.execute("COMMIT")
    owner = await app.store.register_owner(OwnerInfo(app="shop", host=app.store.host, pid=1, supervisor_pid=1))
    claimed = await app.store.claim(ClaimRequest(queue="jobs", owner=owner, limit=10))
    assert [(lease.body, lease.key, lease.headers) for lease in claimed.leases] == [(b"1", "k", b'{"n":1}')]
    late = (await app.store.peek("jobs", limit=10))[2]
    assert late.ready_at - late.sent_at == 3_600_000


async def test_dedupe_holds_in_and_across_transactions(app: Conveyor, user: apsw.Connection) -> None:
    queue = app.queue("once")
    user.execute("BEGIN IMMEDIATE")
    first = await queue.send(1, dedupe="a", tx=user)
    again = await queue.send(2, dedupe="a", tx=user)
    user.execute("COMMIT")
    assert (again.id, again.deduped, first.deduped) == (first.id, True, False)
    assert (await queue.send(3, dedupe="a")).id == first.id
    user.execute("BEGIN IMMEDIATE")
    assert (await queue.send(4, dedupe="a", tx=user)).id == first.id
    await queue.send(5, dedupe="b", tx=user)
    user.execute("ROLLBACK")
    assert not (await queue.send(6, dedupe="b")).deduped  # the key went with its message
    assert await bodies(app, "once") == [b"1", b"6"]


async def test_what_a_send_refuses_leaves_the_transaction_usable(app: Conveyor, user: apsw.Connection) -> None:
    user.execute("BEGIN IMMEDIATE")
    user.execute("INSERT INTO orders VALUES (1)")
    with pytest.raises(QueueNotFoundError):
        await app.queue("none").send(1, tx=user)
    await app.queue("small").send(1, tx=user)
    with pytest.raises(QueueFullError):
        await app.queue("small").send(2, tx=user)
    with pytest.raises(BodyTooLargeError):
        await app.queue("small").send("x" * 101, tx=user)
    with pytest.raises(BodyTooLargeError):
        await app.queue("small").send_batch(["x" * 101], tx=user)
    assert await app.queue("jobs").send_batch([], tx=user) == []
    user.execute("COMMIT")
    assert await bodies(app, "small") == [b"1"]
    assert user.execute("SELECT n FROM orders").get == 1


async def test_a_send_that_breaks_off_leaves_nothing_behind(app: Conveyor, user: apsw.Connection) -> None:
    user.execute("BEGIN IMMEDIATE")
    await app.queue("jobs").send(1, tx=user)
    user.exec_trace = lambda _cursor, text, _values: "INTO ready" not in text
    with pytest.raises(StoreError):
        await app.queue("jobs").send(2, tx=user)
    user.exec_trace = None
    assert user.execute("SELECT count(*) FROM messages").get == 1
    await app.queue("jobs").send(3, tx=user)
    user.execute("COMMIT")
    assert await bodies(app) == [b"1", b"3"]
    assert (await app.queue("jobs").metrics()).backlog_messages == 2


async def test_the_users_last_rowid_is_still_the_users(app: Conveyor, user: apsw.Connection) -> None:
    user.execute("BEGIN IMMEDIATE")
    user.execute("INSERT INTO orders VALUES (4711)")
    await app.queue("jobs").send(1, tx=user)
    assert user.last_insert_rowid() == 4711
    user.execute("COMMIT")


async def test_the_folder_of_the_process_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = Conveyor("shop", url="sqlite:///store.db")
    app.declare_queue("jobs")
    async with app:
        monkeypatch.chdir("/")
        with contextlib.closing(connect(tmp_path)) as user, user:
            await app.queue("jobs").send(1, tx=user)
        assert await bodies(app) == [b"1"]


async def test_a_tracer_of_the_users_does_not_bend_our_rows(app: Conveyor, user: apsw.Connection) -> None:
    user.row_trace = lambda _cursor, row: {"row": row}
    user.execute("BEGIN IMMEDIATE")
    await app.queue("once").send(1, dedupe="a", tx=user)
    user.execute("COMMIT")
    assert await bodies(app, "once") == [b"1"]


# Waking


async def test_consumers_are_woken_by_the_commit_and_not_by_a_rollback(app: Conveyor, user: apsw.Connection) -> None:
    woken: list[str] = []
    heard = asyncio.Event()

    def wake(names: frozenset[str]) -> None:
        woken.extend(names)
        heard.set()

    app.store.subscribe(wake)
    asked: list[str] = []

    def approve() -> bool:
        asked.append("asked")
        return False

    user.set_commit_hook(approve)  # the user's own stays
    user.execute("BEGIN IMMEDIATE")
    await app.queue("jobs").send(1, tx=user)
    user.execute("ROLLBACK")
    user.execute("BEGIN IMMEDIATE")
    await app.queue("small").send(1, tx=user)
    await app.queue("once").send(1, tx=user)
    user.execute("COMMIT")
    await asyncio.wait_for(heard.wait(), timeout=60)
    assert sorted(woken) == ["once", "small"]
    assert asked == ["asked"]
    user.execute("INSERT INTO orders VALUES (1)")  # a commit of the user's alone rings for nobody
    await app.queue("jobs").metrics()
    assert sorted(woken) == ["once", "small"]


async def test_another_process_is_woken_too(app: Conveyor, user: apsw.Connection, tmp_path: Path) -> None:
    heard = asyncio.Event()
    app.store.subscribe(lambda names: heard.set() if "jobs" in names else None)
    program = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "pass")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path), "0")
    await asyncio.wait_for(heard.wait(), timeout=60)
    assert await process.wait() == 0
    assert await bodies(app) == [b"0"]


# What is refused


async def test_a_stdlib_connection_is_refused(app: Conveyor, tmp_path: Path) -> None:
    sqlite3 = importlib.import_module("sqlite3")  # not the file's: even opening it would be the harm
    other = sqlite3.connect(tmp_path / "other.db")
    with pytest.raises(InvalidTransactionError, match="second SQLite library") as caught:
        await app.queue("jobs").send(1, tx=other)
    assert "apsw" in caught.value.hint
    with pytest.raises(InvalidTransactionError, match="second SQLite library"):
        await app.queue("jobs").send(1, tx=other.cursor())
    other.close()


def _elsewhere(_folder: Path) -> object:
    connection = apsw.Connection("")
    connection.execute("BEGIN")
    return connection


def _another_file(folder: Path) -> object:
    connection = apsw.Connection(str(folder / "other.db"))
    connection.execute("BEGIN IMMEDIATE")
    return connection


def _closed(folder: Path) -> object:
    connection = connect(folder)
    connection.close()
    return connection


def _closed_cursor(folder: Path) -> object:
    cursor = connect(folder).cursor()
    cursor.close()
    return cursor


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (connect, "no transaction is open"),
        (_elsewhere, "its file is `:memory:`"),
        (_another_file, "its file is `.*other.db`"),
        (_closed, "closed"),
        (_closed_cursor, "closed"),
        (lambda _folder: object(), "no apsw connection"),
        (lambda _folder: True, "no apsw connection"),
    ],
)  # fmt: skip
async def test_what_is_no_open_transaction_of_the_file_is_refused(
    app: Conveyor, tmp_path: Path, make: Callable[[Path], object], problem: str
) -> None:
    with pytest.raises(InvalidTransactionError, match=problem):
        await app.queue("jobs").send(1, tx=make(tmp_path))
    assert await bodies(app) == []


async def test_a_reader_that_is_behind_is_told_to_begin_as_a_writer(app: Conveyor, user: apsw.Connection) -> None:
    user.execute("BEGIN")
    user.execute("SELECT * FROM orders").fetchall()
    await app.queue("jobs").send("between")
    with pytest.raises(StoreBusyError, match="began as a reader") as caught:
        await app.queue("jobs").send(1, tx=user)
    assert "BEGIN IMMEDIATE" in caught.value.hint
    user.execute("ROLLBACK")
    assert await bodies(app) == [b'"between"']


async def test_nobody_writes_between_our_first_read_and_our_first_write(
    app: Conveyor, user: apsw.Connection, tmp_path: Path
) -> None:
    rival = connect(tmp_path)
    rival.set_busy_timeout(0)

    def write(_cursor: object, _text: object, _values: object) -> bool:
        with contextlib.suppress(apsw.BusyError):
            rival.execute("INSERT INTO orders DEFAULT VALUES")
        return True

    user.execute("BEGIN")
    user.exec_trace = write
    await app.queue("jobs").send(1, tx=user)
    user.exec_trace = None
    user.execute("COMMIT")
    assert await bodies(app) == [b"1"]


async def test_a_lock_that_is_held_is_an_error_with_a_hint(
    app: Conveyor, user: apsw.Connection, tmp_path: Path
) -> None:
    user.execute("BEGIN IMMEDIATE")
    late = connect(tmp_path)
    late.set_busy_timeout(0)
    late.execute("BEGIN")
    with pytest.raises(StoreBusyError, match="locked by another writer") as caught:
        await app.queue("jobs").send(1, tx=late)
    assert "BEGIN IMMEDIATE" in caught.value.hint
    user.execute("ROLLBACK")
    await app.queue("jobs").send(1, tx=late)  # the same transaction goes on
    late.execute("COMMIT")
    assert await bodies(app) == [b"1"]


async def test_the_store_in_memory_and_a_closed_one_refuse(tmp_path: Path) -> None:
    with pytest.raises(InvalidTransactionError, match="store in memory"):
        MemoryStore(ManualClock()).join(apsw.Connection(""))
    closed = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db")
    with pytest.raises(StoreClosedError):
        await closed.queue("jobs").send(1, tx=apsw.Connection(""))


# From code that is not async


def test_two_threads_send_each_in_its_own_transactions(tmp_path: Path) -> None:
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db")
    app.declare_queue("jobs")
    app.run_sync(app.ensure_open())

    def run(start: int) -> None:
        user = connect(tmp_path)
        for n in range(start, start + 50):
            user.execute("BEGIN IMMEDIATE")
            app.run_sync(app.queue("jobs").send(n, tx=user.cursor()))
            user.execute("ROLLBACK" if n % 3 == 0 else "COMMIT")
        user.close()

    threads = [threading.Thread(target=run, args=(start,)) for start in (0, 1_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {int(body) for body in app.run_sync(bodies(app))}
    assert found == {start + n for start in (0, 1_000) for n in range(50) if (start + n) % 3}
    app.run_sync(app.close())
