"""Every store that conveyor ships, fresh for each test and on a clock that the test moves."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest

from conveyor import Conveyor
from conveyor.model.settings import QueueSettings
from conveyor.store.memory import MemoryStore
from conveyor.store.postgres import PostgresStore
from conveyor.store.protocol import Store
from conveyor.store.routed import RoutedStore, part
from conveyor.store.routing import Routing
from conveyor.store.sqlite import SQLiteStore
from conveyor.testing.clock import ManualClock
from kit.borrowed import connect
from kit.pgbouncer import the_pooler
from kit.postgres import the_server

pytest.register_assert_rewrite("conveyor.testing.conformance")


# Most of the suite's queues lie far; those that one of its batches or deaths needs together lie together.
ROUTES = {"a": "home", "b": "home", "a-dlq": "home", "plain": "home", "reports": "home", "*": "far"}


def make_store(kind: str, folder: Path, clock: ManualClock, *, url: str | None = None) -> Store:
    """`url` is that of a PostgreSQL schema to use; a fresh one if there is none."""
    if kind == "memory":
        return MemoryStore(clock)
    if kind == "postgres":
        return PostgresStore(url or the_server().url(), clock=clock)
    if kind.startswith("routed"):
        far = SQLiteStore(folder / "far.db", clock=clock) if kind == "routed" else PostgresStore(the_server().url(), clock=clock)
        routing = Routing(url="sqlite:///store.db", stores={"far": "given below"}, routes=ROUTES)
        return RoutedStore(routing, {"home": SQLiteStore(folder / "store.db", clock=clock), "far": far})
    if kind == "pgbouncer":
        return PostgresStore(the_pooler().url(), clock=clock)
    return SQLiteStore(folder / "store.db", clock=clock)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


KINDS = ["memory", "sqlite", "postgres", "routed", pytest.param("routed-postgres", marks=pytest.mark.campaign), pytest.param("pgbouncer", marks=pytest.mark.campaign)]


@pytest.fixture(params=KINDS)
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    monkeypatch.setattr(part, "PATIENCE_S", 60.0)  # a busy machine is not a store that hangs
    with the_server().emptied() if request.param == "postgres" else contextlib.nullcontext() as url:
        store = make_store(request.param, tmp_path, clock, url=url)
        await store.open()
        yield store
        await store.close()


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Conveyor]:
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db")
    app.declare_queue("jobs")
    app.declare_queue("small", QueueSettings(max_backlog_messages=1, max_message_bytes=100))
    app.declare_queue("once", QueueSettings(dedupe_window_ms=60_000))
    async with app:
        yield app


@pytest.fixture
def user(app: Conveyor, tmp_path: Path) -> Iterator[apsw.Connection]:
    """The user's connection, with a table of the user's own."""
    connection = connect(tmp_path)
    connection.execute("CREATE TABLE orders (n INTEGER PRIMARY KEY)")
    yield connection
    connection.close()
