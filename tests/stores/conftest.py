"""Every store that conveyor ships, fresh for each test and on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor.store.memory import MemoryStore
from conveyor.store.postgres import PostgresStore
from conveyor.store.protocol import Store
from conveyor.store.sqlite import SQLiteStore
from conveyor.testing.clock import ManualClock
from kit.postgres import the_server

pytest.register_assert_rewrite("conveyor.testing.conformance")


def make_store(kind: str, folder: Path, clock: ManualClock) -> Store:
    if kind == "memory":
        return MemoryStore(clock)
    if kind == "postgres":
        return PostgresStore(the_server().url(), clock=clock)
    return SQLiteStore(folder / "store.db", clock=clock)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    store = make_store(request.param, tmp_path, clock)
    await store.open()
    yield store
    await store.close()
