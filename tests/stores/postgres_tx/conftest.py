"""A PostgreSQL store for each test, an app on it, and users of its database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from conveyor import Conveyor
from kit.postgres import the_server
from kit.users import User, open_buyer, open_shop


@pytest.fixture
def url() -> Iterator[str]:
    with the_server().emptied() as url:
        yield url


@pytest.fixture
def dsn(url: str) -> str:
    return url.partition("?")[0]


@pytest.fixture
async def app(url: str) -> AsyncIterator[Conveyor]:
    async with open_shop(url) as app:
        yield app


@pytest.fixture
async def user(app: Conveyor, dsn: str, kind: type[User]) -> AsyncIterator[User]:
    async with open_buyer(kind, app, dsn) as user:
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
