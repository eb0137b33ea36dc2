"""Beside others: nobody waits for a user's open transaction, and what it sent comes to where it belongs once it ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conveyor import Conveyor, Message, Outgoing, QueueNotFoundError
from conveyor.model.errors import InvalidMessageError
from conveyor.model.rate import Rate
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.store.records import ClaimRequest, OwnerInfo
from kit.borrowed import bodies
from kit.programs import until
from kit.users import AsyncAlchemy, Asyncpg, Psycopg, User, open_user

pytestmark = pytest.mark.anyio


async def test_a_cost_is_checked_in_the_transaction_and_comes_with_the_message(app: Conveyor, dsn: str) -> None:
    await app.store.put_consumer("jobs", ConsumerSettings(rate=Rate(5, 3_600_000)))
    async with open_user(Asyncpg, app, dsn) as user:
        await user.begin()
        with pytest.raises(InvalidMessageError):
            await user.run(lambda tx: app.queue("jobs").send(1, cost=6, tx=tx))
        await user.run(lambda tx: app.queue("jobs").send(2, cost=4, tx=tx))
        await user.run(lambda tx: app.queue("jobs").send(3, cost=2, tx=tx))
        await user.commit()
    assert await bodies(app) == [b"2", b"3"]
    claimed = await app.store.claim(ClaimRequest(queue="jobs", owner=await an_owner(app), limit=9))
    assert [lease.body for lease in claimed.leases] == [b"2"]  # both would cost more than the rate lets through


async def an_owner(app: Conveyor) -> int:
    return await app.store.register_owner(OwnerInfo(app="shop", host=app.store.host, pid=1, supervisor_pid=1))


@pytest.fixture
async def slow(app: Conveyor, dsn: str) -> AsyncIterator[User]:
    """Somebody with an open transaction that has sent something."""
    async with open_user(Asyncpg, app, dsn) as user:
        await user.begin()
        await user.run(lambda tx: app.queue("once").send("slow", dedupe="a", key="k", priority=9, tx=tx))
        await user.run(lambda tx: app.queue("small").send("slow", tx=tx))
        yield user


async def test_nobody_waits_for_an_open_transaction(app: Conveyor, slow: User) -> None:
    store = app.store
    owner = await an_owner(app)
    async with asyncio.timeout(60):
        sent = await app.queue("once").send("quick", dedupe="a", key="k", priority=9)
        await app.queue("small").send("quick")
        await app.pause("once")
        await app.resume("once")
        await store.update_queue("small", QueueSettings(max_backlog_messages=5))
        await store.put_consumer("once", ConsumerSettings(ordered=True))
        assert await store.purge("small") == 1
        assert len((await store.claim(ClaimRequest(queue="once", owner=owner, limit=9))).leases) == 1
        await store.sweep()
    await slow.commit()
    assert await bodies(app, "small") == [b'"slow"']  # sent after the purge: its COMMIT was
    assert [found.id.hex() for found in await store.peek("once", limit=9)] == [sent.id]  # the key was taken by then


async def test_a_purge_takes_what_was_committed_before_it_and_nothing_else(app: Conveyor, dsn: str) -> None:
    async with open_user(Asyncpg, app, dsn) as early, open_user(Asyncpg, app, dsn) as late:
        for user in (early, late):
            await user.begin()
            await user.run(lambda tx: app.queue("jobs").send(1, tx=tx))
        await early.commit()
        assert await app.store.purge("jobs") == 1
        await late.commit()
        assert len(await bodies(app)) == 1
        while (await app.store.sweep()).total:
            pass
        assert (await app.queue("jobs").metrics()).backlog_messages == 1


async def test_a_queue_that_is_deleted_before_the_commit_takes_its_messages_along(app: Conveyor, slow: User) -> None:
    await app.store.delete_queue("once")
    await slow.commit()
    assert await bodies(app, "small") == [b'"slow"']
    with pytest.raises(QueueNotFoundError):
        await bodies(app, "once")


async def test_a_queue_that_is_renamed_before_the_commit_gets_its_messages(app: Conveyor, slow: User) -> None:
    await app.store.rename_queue("once", "twice")
    await app.store.rename_queue("small", "smaller")
    await app.store.create_queue("small", QueueSettings())  # somebody takes the name that was sent to
    await slow.commit()
    assert await bodies(app, "twice") == await bodies(app, "small") == [b'"slow"']
    assert await bodies(app, "smaller") == []


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_an_old_snapshot_sends_to_where_the_queue_is_now(app: Conveyor, dsn: str, level: str) -> None:
    async with open_user(Asyncpg, app, dsn) as user:
        await user.begin()
        await user.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        await user.fetch("SELECT 1 FROM pg_class LIMIT 1")
        await app.queue("jobs").send("before")
        await app.store.purge("jobs")
        await app.store.put_consumer("jobs", ConsumerSettings(ordered=True))
        await user.run(lambda tx: app.queue("jobs").send("after", key="k", priority=1, tx=tx))
        await user.commit()
    owner = await an_owner(app)
    await app.queue("jobs").metrics()
    leases = (await app.store.claim(ClaimRequest(queue="jobs", owner=owner, limit=9))).leases
    assert [lease.body for lease in leases] == [b'"after"']


async def test_what_was_committed_before_a_send_comes_before_it_by_the_key(app: Conveyor, dsn: str) -> None:
    await app.store.put_consumer("jobs", ConsumerSettings(ordered=True, key_concurrency=None))
    owner = await an_owner(app)
    async with open_user(Asyncpg, app, dsn) as user:
        for turn in range(0, 30, 3):
            await user.begin()
            await user.run(lambda tx, turn=turn: app.queue("jobs").send(turn, key="k", tx=tx))  # type: ignore[misc]  # the default binds this turn's
            await user.commit()
            await app.queue("jobs").send(turn + 1, key="k")
            await app.queue("jobs").send_batch([Outgoing(turn + 2, key="k")])
    assert [int(found.body) for found in await app.store.peek("jobs", limit=100)] == list(range(30))
    [first] = (await app.store.claim(ClaimRequest(queue="jobs", owner=owner, limit=9))).leases
    assert first.body == b"0"


async def test_options_are_those_of_a_plain_send_and_time_runs_from_the_send(app: Conveyor, dsn: str) -> None:
    async with open_user(Asyncpg, app, dsn) as user:
        await user.begin()
        item = Outgoing("late", key="k", priority=9, headers={"n": 1}, delay="1h", expires_in="2h")
        await user.run(lambda tx: app.queue("jobs").send_batch([item, Outgoing(b"raw")], tx=tx))
        sent_at = app.store.clock.now_ms()
        await user.commit()
    late, raw = await app.store.peek("jobs", limit=10)
    assert (late.key, late.priority, late.headers, raw.body) == ("k", 9, b'{"n":1}', b"raw")
    assert late.ready_at - late.sent_at == 3_600_000
    assert abs(late.sent_at - sent_at) < 1_000


# Waking


@pytest.mark.parametrize("kind", [Asyncpg, AsyncAlchemy, Psycopg])
async def test_consumers_begin_after_the_commit(url: str, dsn: str, kind: type[User]) -> None:
    app = Conveyor("shop", url=url)
    seen: asyncio.Queue[Any] = asyncio.Queue()

    @app.consumer("jobs")
    async def handle(message: Message[int]) -> None:
        seen.put_nowait(message.body)

    async with app, open_user(kind, app, dsn) as user:
        working = asyncio.create_task(app.work())
        await app.queue("jobs").send(0)
        async with asyncio.timeout(60):
            assert await seen.get() == 0
            await user.begin()
            await user.run(lambda tx: app.queue("jobs").send(1, tx=tx))
            await app.queue("jobs").send(2)
            assert await seen.get() == 2
            await user.commit()
            assert await seen.get() == 1
        working.cancel()
        await asyncio.wait([working])


COMMITS_AND_DIES = """
import asyncio, os, signal, sys
import asyncpg
from conveyor import Conveyor

app = Conveyor("shop", url=sys.argv[1])

async def main():
    await app.ensure_open()
    user = await asyncpg.connect(sys.argv[1].partition("?")[0])
    await user.execute("BEGIN")
    await app.queue("jobs").send("orphan", tx=user)
    await user.execute("COMMIT")
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_a_sender_leaves_that_dies_after_its_commit_is_carried_by_a_sweep(
    app: Conveyor, url: str, dsn: str
) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", COMMITS_AND_DIES, url)
    assert await process.wait() == -9

    async def is_carried() -> bool:
        """A store that has just looked, and on a slow machine, looks again a while later."""
        return (await app.store.sweep()).carried == 1

    await until(is_carried)
    leases = (await app.store.claim(ClaimRequest(queue="jobs", owner=await an_owner(app), limit=9))).leases
    assert [lease.body for lease in leases] == [b'"orphan"']
    assert (await app.store.sweep()).carried == 0


# Late


async def test_what_commits_late_is_found_behind_the_mark(app: Conveyor, dsn: str) -> None:
    async with open_user(Asyncpg, app, dsn) as late, open_user(Asyncpg, app, dsn) as quick:
        await late.begin()
        await late.run(lambda tx: app.queue("jobs").send("late", tx=tx))
        for n in range(3):
            await quick.begin()
            await quick.run(lambda tx, n=n: app.queue("jobs").send(n, tx=tx))  # type: ignore[misc]  # the default binds this turn's
            await quick.commit()
            await app.store.sweep()
        await late.commit()
    owner = await an_owner(app)
    found: set[bytes] = set()
    async with asyncio.timeout(60):
        while len(found) < 4:
            await app.store.sweep()
            claimed = await app.store.claim(ClaimRequest(queue="jobs", owner=owner, limit=9))
            found |= {lease.body for lease in claimed.leases}
    assert b'"late"' in found


async def test_what_commits_late_still_has_its_turn(app: Conveyor, dsn: str) -> None:
    """Committed before the other was sent, though its place is before the mark."""
    await app.store.put_consumer("jobs", ConsumerSettings(ordered=True))
    async with open_user(Asyncpg, app, dsn) as late, open_user(Asyncpg, app, dsn) as quick:
        await late.begin()
        await late.run(lambda tx: app.queue("jobs").send("first", key="k", tx=tx))
        await quick.begin()
        await quick.run(lambda tx: app.queue("once").send(1, tx=tx))
        await quick.commit()
        assert (await app.store.sweep()).carried <= 1  # the mark is past the place of the other
        await late.commit()
        await quick.begin()
        await quick.run(lambda tx: app.queue("jobs").send("second", key="k", tx=tx))
        await quick.commit()
    owner = await an_owner(app)
    leases: list[bytes] = []
    async with asyncio.timeout(60):
        while not leases:
            await app.store.sweep()
            claimed = await app.store.claim(ClaimRequest(queue="jobs", owner=owner, limit=9))
            leases += [lease.body for lease in claimed.leases]
    assert leases == [b'"first"']


async def test_senders_of_one_queue_wait_for_none_of_each_others_transactions(app: Conveyor, dsn: str) -> None:
    """Many at once, ended in any order, with workers that take what comes."""
    async with contextlib.AsyncExitStack() as stack:
        users = [await stack.enter_async_context(open_user(Asyncpg, app, dsn)) for _ in range(8)]
        dice = random.Random(3)
        kept: set[bytes] = set()
        found: set[bytes] = set()
        owner = await an_owner(app)

        async def take() -> None:
            claimed = await app.store.claim(ClaimRequest(queue="jobs", owner=owner, limit=50))
            found.update(lease.body for lease in claimed.leases)
            await app.store.settle(owner, [Settlement(lease.seq, lease.claim) for lease in claimed.leases])

        async def trade(user: User, first: int) -> None:
            for n in range(first, first + 15):
                await user.begin()
                await user.run(lambda tx: app.queue("jobs").send(n, key=dice.choice("ab"), priority=dice.randint(3, 7), tx=tx))
                if dice.random() < 0.5:
                    await user.commit()
                    kept.add(str(n).encode())
                else:
                    await user.rollback()
                await take()

        async with asyncio.timeout(60):
            await asyncio.gather(*(trade(user, each * 100) for each, user in enumerate(users)))
            while found != kept:
                await app.store.sweep()
                await take()
    assert (await app.queue("jobs").metrics()).backlog_messages == 0
