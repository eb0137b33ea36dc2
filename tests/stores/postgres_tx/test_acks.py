"""`message.ack(tx=...)` on PostgreSQL: a message is done if and when the user's own transaction is committed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from conveyor import Conveyor, LeaseLostError, Message
from conveyor.model.errors import InvalidTransactionError
from conveyor.model.events import Event, LeaseLost, MessageFailed
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.records import ClaimRequest, Ending, Evidence
from kit.borrowed import bodies
from kit.users import EVERY, Asyncpg, User, claim, open_user

pytestmark = pytest.mark.anyio


async def reap(app: Conveyor, message: Message[Any]) -> None:
    assert message._fence is not None
    await app.store.reap_owner(message._fence.owner, Evidence(ending=Ending.EXITED))


@EVERY
async def test_the_ack_is_part_of_the_transaction(app: Conveyor, user: User) -> None:
    await app.queue("jobs").send(1)
    message = await claim(app)
    await user.begin()
    await user.run(lambda tx: message.ack(tx=tx))
    await user.rollback()
    assert (await app.queue("jobs").metrics()).backlog_messages == 1
    await user.begin()  # the user tries again
    await user.run(lambda tx: message.ack(tx=tx))
    await user.run(lambda tx: app.queue("once").send("next", tx=tx))
    await user.commit()
    assert (await bodies(app), await bodies(app, "once")) == ([], [b'"next"'])
    metrics = await app.queue("jobs").metrics()
    assert (metrics.backlog_messages, metrics.backlog_bytes, metrics.leased) == (0, 0, 0)


@EVERY
async def test_a_lost_lease_is_raised_inside_the_transaction(app: Conveyor, user: User) -> None:
    await app.queue("jobs").send(1)
    message = await claim(app)
    await reap(app, message)
    await user.begin()
    await user.execute("INSERT INTO orders VALUES (1)")
    with pytest.raises(LeaseLostError):
        await user.run(lambda tx: message.ack(tx=tx))
    assert message.lease_lost
    assert message.verdict is None
    assert await user.fetch("SELECT n FROM orders") == [1]  # it is the user's to roll back
    await user.rollback()


@EVERY
async def test_a_lease_that_is_lost_before_the_commit_fails_the_commit(app: Conveyor, user: User) -> None:
    """Nobody waits for the open transaction, and it does not stand."""
    await app.queue("jobs").send(1)
    message = await claim(app)
    await user.begin()
    await user.execute("INSERT INTO orders VALUES (1)")
    await user.run(lambda tx: message.ack(tx=tx))
    async with asyncio.timeout(60):
        await reap(app, message)
        other = await claim(app)
    with pytest.raises(Exception, match="the lease was lost before the COMMIT"):
        await user.commit()
    await user.rollback()
    await user.begin()
    assert await user.fetch("SELECT n FROM orders") == []
    await user.run(lambda tx: other.ack(tx=tx))
    await user.commit()
    assert await bodies(app) == []


@pytest.fixture
async def pair(app: Conveyor, dsn: str) -> Any:
    async with open_user(Asyncpg, app, dsn) as one, open_user(Asyncpg, app, dsn) as two:
        yield one, two


async def test_of_two_transactions_that_ack_one_lease_one_stands(app: Conveyor, pair: tuple[User, User]) -> None:
    await app.queue("jobs").send(1)
    message = await claim(app)
    for user in pair:
        await user.begin()
        await user.run(lambda tx: message.ack(tx=tx))
    await pair[1].commit()
    with pytest.raises(asyncpg.PostgresError, match="lease was lost"):
        await pair[0].commit()
    assert (await app.queue("jobs").metrics()).backlog_messages == 0


async def test_an_ack_counts_once_in_a_transaction(app: Conveyor, pair: tuple[User, User]) -> None:
    user, _ = pair
    await app.queue("jobs").send(1)
    message = await claim(app)
    await user.begin()
    await user.run(lambda tx: message.ack(tx=tx))
    with pytest.raises(LeaseLostError):
        await user.run(lambda tx: message.ack(tx=tx))
    await user.execute("SET CONSTRAINTS ALL IMMEDIATE")
    await user.commit()
    assert await bodies(app) == []


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_an_old_snapshot_cannot_ack_what_was_taken_away(
    app: Conveyor, pair: tuple[User, User], level: str
) -> None:
    user, _ = pair
    await app.queue("jobs").send(1)
    message = await claim(app)
    await user.begin()
    await user.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
    await user.fetch("SELECT 1 FROM pg_class LIMIT 1")
    await reap(app, message)
    await user.run(lambda tx: message.ack(tx=tx))  # as the snapshot sees it
    with pytest.raises(asyncpg.SerializationError):
        await user.commit()
    assert await bodies(app) == [b"1"]


async def test_an_earlier_lease_of_the_same_worker_is_lost(app: Conveyor, pair: tuple[User, User]) -> None:
    user, _ = pair
    await app.queue("jobs").send(1)
    message = await claim(app)
    fence, lease = message._fence, message._lease
    assert fence is not None
    await app.store.settle(fence.owner, [Settlement(lease.seq, lease.claim, Action.RELEASE)])
    [again] = (await app.store.claim(ClaimRequest(queue="jobs", owner=fence.owner, limit=1))).leases
    await user.begin()
    with pytest.raises(LeaseLostError):
        await user.run(lambda tx: message.ack(tx=tx))
    await user.run(lambda tx: Message(again, None, None, fence).ack(tx=tx))
    await user.commit()
    assert await bodies(app) == []


async def test_the_first_word_wins_and_a_message_of_no_worker_has_no_lease(
    app: Conveyor, pair: tuple[User, User]
) -> None:
    user, _ = pair
    await app.queue("jobs").send(1)
    message = await claim(app)
    message.retry()
    await user.begin()
    await user.run(lambda tx: message.ack(tx=tx))
    with pytest.raises(InvalidTransactionError, match="no worker delivered"):
        await user.run(lambda tx: Message(message._lease, None).ack(tx=tx))
    await user.commit()
    assert await bodies(app) == [b"1"]


async def test_an_ordered_key_and_a_dead_letter_are_let_go_with_the_ack(
    app: Conveyor, pair: tuple[User, User]
) -> None:
    user, _ = pair
    await app.store.put_consumer("jobs", ConsumerSettings(ordered=True, dead_letter_queue="dead"))
    for n in (1, 2):
        await app.queue("jobs").send(n, key="k")
    for queue, left in (("jobs", 1), ("jobs", 0)):
        message = await claim(app, queue)
        await user.begin()
        await user.run(lambda tx, message=message: message.ack(tx=tx))  # type: ignore[misc]  # the default binds this turn's
        await user.commit()
        assert (await app.queue("jobs").metrics()).backlog_messages == left
    await app.queue("jobs").send(3, key="k")
    message = await claim(app)
    fence, lease = message._fence, message._lease
    assert fence is not None
    await app.store.settle(fence.owner, [Settlement(lease.seq, lease.claim, Action.REJECT)])
    dead = await claim(app, "dead")
    await user.begin()
    await user.run(lambda tx: dead.ack(tx=tx))
    await user.commit()
    assert await bodies(app, "dead") == []


async def test_a_purge_of_what_is_being_acked_takes_it_from_the_transaction(
    app: Conveyor, pair: tuple[User, User]
) -> None:
    committed, open_ = pair
    for user in pair:
        await app.queue("jobs").send(1)
        message = await claim(app)
        await user.begin()
        await user.run(lambda tx, message=message: message.ack(tx=tx))  # type: ignore[misc]  # the default binds this turn's
    await committed.commit()
    assert await app.store.purge("jobs") == 1  # the acked one was done before
    while (await app.store.sweep()).total:
        pass
    with pytest.raises(asyncpg.PostgresError, match="lease was lost"):
        await open_.commit()
    assert (await app.queue("jobs").metrics()).backlog_messages == 0


# Through a worker


CALLS: dict[str, int] = {}
ENDS = ["COMMIT", "COMMIT and raise", "ROLLBACK", "ROLLBACK and raise"]


@pytest.mark.parametrize("end", ENDS)
async def test_a_worker_retries_what_was_rolled_back_and_only_that(url: str, dsn: str, end: str) -> None:
    failed: list[Event] = []
    app = Conveyor(end.replace(" ", "-"), url=url, emit=failed.append)
    CALLS[app.name] = 0

    @app.consumer("acked", max_retries=3)
    async def handle(message: Message[int]) -> None:
        CALLS[app.name] += 1
        is_first = message.attempts == 1
        user = await asyncpg.connect(dsn)
        await user.execute("BEGIN")
        await user.execute(f"INSERT INTO orders VALUES ({message.body})")
        await message.ack(tx=user)
        await user.execute(end.split(maxsplit=1)[0] if is_first else "COMMIT")
        await user.close()
        if is_first and end.endswith("raise"):
            raise OSError

    async with app, open_user(Asyncpg, app, dsn) as user:
        await user.execute("DROP TABLE IF EXISTS orders")
        await user.execute("CREATE TABLE orders (n bigint)")
        await app.queue("acked").send(7)
        calls = 2 if end.startswith("ROLLBACK") else 1
        working = asyncio.create_task(app.work())
        async with asyncio.timeout(60):
            while (await app.queue("acked").metrics()).backlog_messages or CALLS[app.name] < calls:
                await asyncio.wait([working], timeout=0.02)
                assert not working.done()
        working.cancel()
        await asyncio.wait([working])
        assert CALLS[app.name] == calls
        assert await bodies(app, "acked-dlq") == []
        assert await user.fetch("SELECT n FROM orders") == [7]
    assert sum(isinstance(each, MessageFailed) for each in failed) == end.endswith("raise")
    assert not [each for each in failed if isinstance(each, LeaseLost)]


CHILD = """
import os
import psycopg
from conveyor import Conveyor, Message

app = Conveyor("shop")

@app.consumer("acked", max_retries=3, run_in="process")
def handle(message: Message[int]) -> None:
    with psycopg.connect(os.environ["DSN"]) as user:
        user.execute("INSERT INTO orders VALUES (%s)", (message.body * 10 + message.attempts,))
        app.run_sync(message.ack(tx=user))
        if message.attempts == 1:
            user.rollback()
"""


async def test_a_handler_in_a_child_may_do_the_same(url: str, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(CHILD, encoding="utf-8")
    environment = {**os.environ, "CONVEYOR_URL": url, "DSN": dsn}
    app = Conveyor("shop", url=url)
    app.declare_queue("acked")
    async with app, open_user(Asyncpg, app, dsn) as user:
        await user.execute("DROP TABLE IF EXISTS orders")
        await user.execute("CREATE TABLE orders (n bigint)")
        await app.queue("acked").send(7)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "conveyor", "work", "shop:app", cwd=tmp_path, env=environment
        )  # fmt: skip
        async with asyncio.timeout(90):
            while (await app.queue("acked").metrics()).backlog_messages:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), timeout=0.05)
                    raise AssertionError("the workers ended")
        process.terminate()
        await process.wait()
        assert await user.fetch("SELECT n FROM orders") == [72]
        assert await bodies(app, "acked-dlq") == []
