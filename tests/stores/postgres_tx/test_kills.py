"""F13: a process is killed while its users' transactions are open, and while they commit."""

from __future__ import annotations

import asyncio
import random
import signal
import sys

import asyncpg
import pytest

from conveyor import Conveyor
from kit.borrowed import bodies

pytestmark = pytest.mark.anyio

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


async def test_killed_transactions_leave_no_phantom_and_lose_nothing(app: Conveyor, url: str, dsn: str) -> None:
    await play_kills(app, url, dsn, kills=3, dice=random.Random(5))


@pytest.mark.campaign
@pytest.mark.timeout(1_200)
async def test_a_thousand_killed_transactions_leave_no_phantom_and_lose_nothing(
    app: Conveyor, url: str, dsn: str
) -> None:
    await play_kills(app, url, dsn, kills=1_000 // OPEN, dice=random.Random(6))
