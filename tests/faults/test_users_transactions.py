"""F13: transactions that send are rolled back, or die with their process; no phantom, nothing lost. By every driver."""

from __future__ import annotations

import asyncio
import random
import signal
import sys

import asyncpg
import pytest

from conveyor import Conveyor
from kit.borrowed import bodies
from kit.postgres import the_server
from kit.users import EVERY, User, open_buyer, open_shop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@EVERY
@pytest.mark.parametrize("turns", [30, pytest.param(1_000, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])])
async def test_random_ends_leave_no_phantom_and_lose_nothing(kind: type[User], turns: int) -> None:
    url = the_server().url()
    async with open_shop(url) as app, open_buyer(kind, app, url.partition("?")[0]) as user:
        await play_ends(app, user, turns=turns, dice=random.Random(turns))


async def play_ends(app: Conveyor, user: User, *, turns: int, dice: random.Random) -> None:
    expected: set[int] = set()
    queue = app.queue("jobs")
    for turn in range(turns):
        numbers = list(range(turn * 10, turn * 10 + dice.randint(1, 3)))
        await user.begin()
        for number in numbers:
            await user.execute(f"INSERT INTO orders VALUES ({number})")
            priority = dice.choice([None, 2, 8])
            await user.run(lambda tx, number=number, priority=priority: queue.send(number, tx=tx, priority=priority))  # type: ignore[misc]  # the default binds this turn's
        if dice.random() < 0.2:
            await user.execute("SAVEPOINT mine")
            await user.run(lambda tx: queue.send_batch([-1, -2], tx=tx))
            await user.execute("ROLLBACK TO SAVEPOINT mine")
        if dice.random() < 0.5:
            await user.commit()
            expected |= set(numbers)
        else:
            await user.rollback()
        if dice.random() < 0.1:
            await app.queue("once").send(turn)
    assert sorted(int(body) for body in await bodies(app)) == sorted(expected)
    await user.begin()
    assert sorted(await user.fetch("SELECT n FROM orders")) == sorted(expected)
    await user.rollback()
    assert (await queue.metrics()).backlog_messages == len(expected)


SHOP = """
import asyncio, random, sys
import asyncpg
from conveyor import Conveyor

url, start, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
app = Conveyor("shop", url=url)

async def buy(users, dice, first):
    user = await users.acquire()
    for n in range(first, first + 1_000_000, 2):
        await user.execute("BEGIN")
        await user.execute("INSERT INTO orders VALUES ($1)", n)
        if dice.random() < 0.5:
            await app.queue("jobs").send(n, tx=user)
        else:
            await user.execute("INSERT INTO orders VALUES ($1)", n + 1)
            await app.queue("jobs").send_batch([n, n + 1], tx=user)
        await user.execute("ROLLBACK" if dice.random() < 0.3 else "COMMIT")
        print(flush=True)

async def main():
    await app.ensure_open()
    users = await asyncpg.create_pool(url.partition("?")[0], min_size=20, max_size=20)
    async with asyncio.TaskGroup() as tasks:
        for each in range(20):
            tasks.create_task(buy(users, random.Random(seed * 100 + each), start + each * 1_000_000))

asyncio.run(main())
"""
OPEN = 20
"""Transactions that are open in a process when it is killed."""


@pytest.mark.parametrize(
    "kills", [3, pytest.param(1_000 // OPEN, marks=[pytest.mark.campaign, pytest.mark.timeout(1_800)])]
)
async def test_killed_transactions_leave_no_phantom_and_lose_nothing(kills: int) -> None:
    url = the_server().url()
    async with open_shop(url) as app:
        await play_kills(app, url, url.partition("?")[0], kills=kills, dice=random.Random(kills))


async def play_kills(app: Conveyor, url: str, dsn: str, *, kills: int, dice: random.Random) -> None:
    user = await asyncpg.connect(dsn)
    await user.execute("DROP TABLE IF EXISTS orders")
    await user.execute("CREATE TABLE orders (n bigint)")
    for turn in range(kills):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SHOP, url, str(turn * 100_000_000), str(turn)), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(dice.randint(1, 200)):
            assert await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        await process.stdout.read()
        assert await process.wait() == -signal.SIGKILL
    await user.execute("BEGIN; LOCK TABLE orders; COMMIT")  # the last backends have heard of it
    ordered = sorted(n for (n,) in await user.fetch("SELECT n FROM orders"))
    await user.close()
    sent = sorted(int(body) for body in await bodies(app))
    assert len(ordered) > kills
    assert sent == ordered, f"phantom={len(set(sent) - set(ordered))} lost={len(set(ordered) - set(sent))}"
    assert (await app.queue("jobs").metrics()).backlog_messages == len(sent)
