"""A move and a backup take along what users' transactions have sent and acked, and a closed store refuses the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from conveyor import Conveyor
from conveyor.model.clock import SystemClock
from conveyor.model.errors import StoreMovedError
from conveyor.store.moving import move
from conveyor.store.urls import make_keeper, make_store
from kit.borrowed import bodies
from kit.postgres import the_server
from kit.users import Asyncpg, Psycopg, User, claim, open_shop, open_user

pytestmark = pytest.mark.anyio


@pytest.fixture
def url() -> str:
    """Of a schema that nobody gets afterwards: a store that was moved stays closed."""
    return the_server().url()


def nothing(_done: int, _total: int) -> None:
    """For progress."""


async def test_a_move_takes_along_what_has_not_been_carried_yet(url: str, dsn: str, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/moved.db"
    async with open_shop(url) as app, open_user(Asyncpg, app, dsn) as user:
        for n in range(3):
            await app.queue("jobs").send(n, key="k")
        message = await claim(app)
        await app.close()  # no worker lives, and nobody carries
        for owner in await fetch(user, url, "SELECT owner FROM owners"):
            await user.execute(f"UPDATE {schema(url)}.owners SET lease_until = 0 WHERE owner = {owner}")
        await user.begin()
        await user.execute(f"SELECT {schema(url)}.push('once', '1', dedupe => 'a', priority => 9)")
        fence, lease = message._fence, message._lease
        assert fence is not None
        await user.execute(f"INSERT INTO {schema(url)}.acks VALUES ({fence.owner}, {lease.seq}, {lease.claim})")
        await user.commit()
        await move(make_keeper(url), make_keeper(target), clock=SystemClock(), wait_s=0, keeps_source=False, progress=nothing)
    async with open_shop(target) as moved:
        assert await bodies(moved) == [b"1", b"2"]
        assert await bodies(moved, "once") == [b"1"]
        assert (await moved.queue("jobs").metrics()).leased == 0


@pytest.mark.parametrize("kind", [Asyncpg, Psycopg])
async def test_a_store_that_was_moved_refuses_users_transactions(
    url: str, dsn: str, tmp_path: Path, kind: type[User]
) -> None:
    async with open_shop(url) as app, open_user(kind, app, dsn) as user:
        await user.begin()
        await user.run(lambda tx: app.queue("jobs").send("before", tx=tx))
        target = make_keeper(f"sqlite:///{tmp_path}/moved.db")
        moving = asyncio.create_task(
            move(make_keeper(url), target, clock=SystemClock(), wait_s=0, keeps_source=False, progress=nothing)
        )
        await asyncio.wait([moving], timeout=0.5)
        assert not moving.done()  # it waits for the open transaction
        await user.commit()
        moved = await moving
        assert moved.tables["messages"].rows == 1
        await user.begin()
        with pytest.raises(StoreMovedError):
            await user.run(lambda tx: app.queue("jobs").send("after", tx=tx))
        await user.rollback()


async def test_a_backup_holds_what_was_committed_before_it(app: Conveyor, url: str, dsn: str, tmp_path: Path) -> None:
    async with open_user(Asyncpg, app, dsn) as user:
        await app.queue("jobs").send("acked")
        message = await claim(app)
        await user.begin()
        await user.execute(f"SELECT {schema(url)}.push('jobs', '\"sent\"')")
        await user.run(lambda tx: message.ack(tx=tx))
        await user.commit()
        copy = tmp_path / "copy.db"
        await asyncio.to_thread(make_keeper(url).back_up, copy, progress=nothing)
    store = make_store(f"sqlite:///{copy}")
    await store.open()
    assert [found.body for found in await store.peek("jobs", limit=9)] == [b'"sent"']
    await store.close()


def schema(url: str) -> str:
    return url.partition("schema=")[2]


async def fetch(user: User, url: str, sql: str) -> list[int]:
    return await user.fetch(sql.replace("FROM ", f"FROM {schema(url)}."))
