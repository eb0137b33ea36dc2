"""Users behind PgBouncer in transaction mode, where the next transaction may run in another session."""

from __future__ import annotations

import asyncio

import asyncpg
import psycopg
import pytest

from conveyor import Conveyor
from kit.borrowed import bodies
from kit.pgbouncer import the_pooler

pytestmark = pytest.mark.anyio

USERS = 5
TURNS = 10


@pytest.fixture
def address(app: Conveyor) -> str:
    return the_pooler().url().partition("?")[0]


async def test_asyncpg_behind_a_pooler(app: Conveyor, address: str) -> None:
    async def buy(first: int) -> None:
        user = await asyncpg.connect(address, statement_cache_size=0)
        for n in range(first, first + TURNS):
            transaction = user.transaction()
            await transaction.start()
            await app.queue("once").send(n, dedupe=str(n), tx=user)
            await (transaction.rollback() if n % 3 == 0 else transaction.commit())
        await user.close()

    await asyncio.gather(*(buy(each * 100) for each in range(USERS)))
    await check(app)


async def test_psycopg_behind_a_pooler(app: Conveyor, address: str) -> None:
    async def buy(first: int) -> None:
        async with await psycopg.AsyncConnection.connect(address, prepare_threshold=None) as user:
            for n in range(first, first + TURNS):
                await app.queue("once").send(n, dedupe=str(n), tx=user)
                await (user.rollback() if n % 3 == 0 else user.commit())

    await asyncio.gather(*(buy(each * 100) for each in range(USERS)))
    await check(app)


async def check(app: Conveyor) -> None:
    expected = {each * 100 + n for each in range(USERS) for n in range(TURNS) if (each * 100 + n) % 3}
    assert {int(body) for body in await bodies(app, "once")} == expected
