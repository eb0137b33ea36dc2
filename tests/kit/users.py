"""Users of one PostgreSQL database by every driver whose transactions conveyor joins, all spoken to in the same way."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest

from conveyor import Conveyor, Message
from conveyor.model.settings import QueueSettings
from conveyor.queue.delivery import Fence
from conveyor.store.records import ClaimRequest, OwnerInfo

T = TypeVar("T")
Job = Callable[[Any], Coroutine[Any, Any, T]]


class User:
    """One connection; `begin` to `commit` or `rollback` is a transaction, and `tx` what is handed to conveyor."""

    tx: Any

    def __init__(self, app: Conveyor, dsn: str) -> None:
        self.app = app
        self.dsn = dsn

    async def open(self) -> None: ...
    async def begin(self) -> None: ...
    async def execute(self, sql: str) -> None: ...
    async def fetch(self, sql: str) -> list[Any]:
        """The first column."""
        raise NotImplementedError

    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    async def close(self) -> None: ...

    async def run(self, job: Job[T]) -> T:
        """A coroutine of the app that is given `tx`, run as this user would run it."""
        return await job(self.tx)


class Asyncpg(User):
    async def open(self) -> None:
        self.tx = await asyncpg.connect(self.dsn)

    async def begin(self) -> None:
        await self.tx.execute("BEGIN")

    async def execute(self, sql: str) -> None:
        await self.tx.execute(sql)

    async def fetch(self, sql: str) -> list[Any]:
        return [row[0] for row in await self.tx.fetch(sql)]

    async def commit(self) -> None:
        await self.tx.execute("COMMIT")

    async def rollback(self) -> None:
        await self.tx.execute("ROLLBACK")

    async def close(self) -> None:
        await self.tx.close()


class AsyncpgPool(Asyncpg):
    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(self.dsn, min_size=1, max_size=1)
        self.tx = await self._pool.acquire()

    async def close(self) -> None:
        await self._pool.release(self.tx)
        await self._pool.close()


class AsyncPsycopg(User):
    async def open(self) -> None:
        self.tx = await psycopg.AsyncConnection.connect(self.dsn)  # it begins by itself

    async def execute(self, sql: str) -> None:
        await self.tx.execute(sql)

    async def fetch(self, sql: str) -> list[Any]:
        return [row[0] for row in await (await self.tx.execute(sql)).fetchall()]

    async def commit(self) -> None:
        await self.tx.commit()

    async def rollback(self) -> None:
        await self.tx.rollback()

    async def close(self) -> None:
        await self.tx.close()


class Threaded(User):
    """One whose connection is not async: in a thread of its own, from which it calls `app.run_sync`."""

    async def open(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        await self._there(self.sync_open)

    async def _there(self, job: Callable[..., T], *values: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job, *values)

    async def begin(self) -> None:
        await self._there(self.sync_begin)

    async def execute(self, sql: str) -> None:
        await self._there(self.sync_execute, sql)

    async def fetch(self, sql: str) -> list[Any]:
        return await self._there(self.sync_fetch, sql)

    async def commit(self) -> None:
        await self._there(self.sync_commit)

    async def rollback(self) -> None:
        await self._there(self.sync_rollback)

    async def close(self) -> None:
        await self._there(self.sync_close)
        self._thread.shutdown()

    async def run(self, job: Job[T]) -> T:
        return await self._there(lambda: self.app.run_sync(job(self.tx)))

    def sync_open(self) -> None: ...
    def sync_begin(self) -> None: ...
    def sync_execute(self, sql: str) -> None: ...
    def sync_fetch(self, sql: str) -> list[Any]:
        raise NotImplementedError

    def sync_commit(self) -> None: ...
    def sync_rollback(self) -> None: ...
    def sync_close(self) -> None: ...


class Psycopg(Threaded):
    def sync_open(self) -> None:
        self.tx = psycopg.connect(self.dsn)

    def sync_execute(self, sql: str) -> None:
        self.tx.execute(sql)

    def sync_fetch(self, sql: str) -> list[Any]:
        return [row[0] for row in self.tx.execute(sql).fetchall()]

    def sync_commit(self) -> None:
        self.tx.commit()

    def sync_rollback(self) -> None:
        self.tx.rollback()

    def sync_close(self) -> None:
        self.tx.close()


class PsycopgInline(Psycopg):
    """The same in async code: the event loop waits for it."""

    async def run(self, job: Job[T]) -> T:
        return await job(self.tx)


class AlchemySession(Threaded):
    def sync_open(self) -> None:
        sqlalchemy = importlib.import_module("sqlalchemy")
        self._engine = sqlalchemy.create_engine(dialect(self.dsn, "psycopg"))
        self._text = sqlalchemy.text
        self.tx = self._enter()

    def _enter(self) -> Any:
        return importlib.import_module("sqlalchemy.orm").Session(self._engine)

    def sync_execute(self, sql: str) -> None:
        self.tx.execute(self._text(sql))

    def sync_fetch(self, sql: str) -> list[Any]:
        return list(self.tx.execute(self._text(sql)).scalars())

    def sync_commit(self) -> None:
        self.tx.commit()

    def sync_rollback(self) -> None:
        self.tx.rollback()

    def sync_close(self) -> None:
        self.tx.close()
        self._engine.dispose()


class AlchemyConnection(AlchemySession):
    def _enter(self) -> Any:
        return self._engine.connect()


class AsyncAlchemy(User):
    driver = "asyncpg"
    is_session = True

    async def open(self) -> None:
        asyncio_part = importlib.import_module("sqlalchemy.ext.asyncio")
        self._text = importlib.import_module("sqlalchemy").text
        self._engine = asyncio_part.create_async_engine(dialect(self.dsn, self.driver))
        self.tx = asyncio_part.AsyncSession(self._engine) if self.is_session else await self._engine.connect()

    async def execute(self, sql: str) -> None:
        await self.tx.execute(self._text(sql))

    async def fetch(self, sql: str) -> list[Any]:
        return list((await self.tx.execute(self._text(sql))).scalars())

    async def commit(self) -> None:
        await self.tx.commit()

    async def rollback(self) -> None:
        await self.tx.rollback()

    async def close(self) -> None:
        await self.tx.close()
        await self._engine.dispose()


class AsyncAlchemyConnection(AsyncAlchemy):
    is_session = False


class AsyncAlchemyPsycopg(AsyncAlchemy):
    driver = "psycopg"


class AsyncAlchemyPsycopgConnection(AsyncAlchemyPsycopg):
    is_session = False


class Django(Threaded):
    def sync_open(self) -> None:
        self._transaction, self.tx = connect_django(self.dsn)
        self._atomic: Any = None

    def sync_begin(self) -> None:
        self._atomic = self._transaction.atomic(using=self.tx.alias)
        self._atomic.__enter__()

    def sync_execute(self, sql: str) -> None:
        with self.tx.cursor() as cursor:
            cursor.execute(sql)

    def sync_fetch(self, sql: str) -> list[Any]:
        with self.tx.cursor() as cursor:
            cursor.execute(sql)
            return [row[0] for row in cursor.fetchall()]

    def sync_commit(self) -> None:
        self._atomic.__exit__(None, None, None)

    def sync_rollback(self) -> None:
        self._atomic.__exit__(KeyError, KeyError(), None)

    def sync_close(self) -> None:
        self.tx.close()


def connect_django(dsn: str) -> tuple[Any, Any]:
    """`django.db.transaction`, and a connection of this thread: `connection` itself on the server's first database."""
    settings = importlib.import_module("django.conf").settings
    if not settings.configured:
        postgres = {"ENGINE": "django.db.backends.postgresql", **_address(dsn)}
        elsewhere = {**postgres, "NAME": "elsewhere"}
        lite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        settings.configure(DATABASES={"default": postgres, "elsewhere": elsewhere, "lite": lite})
        importlib.import_module("django").setup()
    database = importlib.import_module("django.db")
    is_first = database.connection.settings_dict["NAME"] == _address(dsn)["NAME"]
    return database.transaction, database.connection if is_first else database.connections["elsewhere"]


def _address(dsn: str) -> dict[str, Any]:
    parts = urlsplit(dsn)
    return {"HOST": parts.hostname, "PORT": parts.port, "USER": parts.username, "NAME": parts.path.strip("/")}


@contextlib.asynccontextmanager
async def open_shop(url: str) -> AsyncIterator[Conveyor]:
    """An app with a plain queue, a small one, and one that dedupes."""
    app = Conveyor("shop", url=url)
    app.declare_queue("jobs")
    app.declare_queue("small", QueueSettings(max_backlog_messages=1, max_message_bytes=100))
    app.declare_queue("once", QueueSettings(dedupe_window_ms=60_000))
    async with app:
        yield app


@contextlib.asynccontextmanager
async def open_buyer(kind: type[User], app: Conveyor, dsn: str) -> AsyncIterator[User]:
    """A user with an empty table of orders."""
    async with open_user(kind, app, dsn) as user:
        await user.begin()
        await user.execute("DROP TABLE IF EXISTS orders")
        await user.execute("CREATE TABLE orders (n bigint)")
        await user.commit()
        yield user


@contextlib.asynccontextmanager
async def open_user(kind: type[User], app: Conveyor, dsn: str) -> AsyncIterator[User]:
    user = kind(app, dsn)
    await user.open()
    try:
        yield user
    finally:
        await user.close()


def dialect(dsn: str, driver: str) -> str:
    return dsn.replace("postgresql://", f"postgresql+{driver}://")


USERS: list[type[User]] = [
    Asyncpg, AsyncpgPool, AsyncPsycopg, Psycopg, PsycopgInline, AlchemySession, AlchemyConnection, AsyncAlchemy,
    AsyncAlchemyConnection, AsyncAlchemyPsycopg, AsyncAlchemyPsycopgConnection, Django,
]  # fmt: skip
EVERY = pytest.mark.parametrize("kind", USERS, ids=lambda kind: kind.__name__)


async def claim(app: Conveyor, queue: str = "jobs") -> Message[Any]:
    """The next message, as a worker of its own hands it to a handler."""
    owner = await app.store.register_owner(OwnerInfo(app="shop", host=app.store.host, pid=1, supervisor_pid=1))
    [lease] = (await app.store.claim(ClaimRequest(queue=queue, owner=owner, limit=1))).leases
    return Message(lease, None, None, Fence(owner, app.store.join))
