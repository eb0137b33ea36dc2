"""A PostgreSQL store for each test, an app on it, and users of its database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from conveyor import Conveyor
from conveyor.model.settings import QueueSettings
from kit.postgres import the_server
from kit.users import User, open_user


@pytest.fixture
def url() -> str:
    return the_server().url()


@pytest.fixture
def dsn(url: str) -> str:
    return url.partition("?")[0]


@pytest.fixture
async def app(url: str) -> AsyncIterator[Conveyor]:
    app = Conveyor("shop", url=url)
    app.declare_queue("jobs")
    app.declare_queue("small", QueueSettings(max_backlog_messages=1, max_message_bytes=100))
    app.declare_queue("once", QueueSettings(dedupe_window_ms=60_000))
    async with app:
        yield app


@pytest.fixture
async def user(app: Conveyor, dsn: str, kind: type[User]) -> AsyncIterator[User]:
    async with open_user(kind, app, dsn) as user:
        await user.begin()
        await user.execute("CREATE TABLE IF NOT EXISTS orders (n bigint)")
        await user.execute("TRUNCATE orders")
        await user.commit()
        yield user


@pytest.fixture(scope="session")
def elsewhere() -> str:
    """Another database of the server."""

    async def make() -> str:
        there = await asyncpg.connect(the_server().url().partition("?")[0])
        await there.execute("CREATE DATABASE elsewhere")
        await there.close()
        return the_server().url().partition("?")[0].replace("/postgres", "/elsewhere")

    return asyncio.run(make())
