"""What is no open transaction of the store's own database is refused, with a hint, and stays usable."""

from __future__ import annotations

import asyncio
import importlib

import asyncpg
import psycopg
import pytest

from conveyor import Conveyor
from conveyor.model.errors import InvalidTransactionError, StoreClosedError
from conveyor.store.postgres import PostgresStore
from conveyor.store.postgres.opening import read_address
from conveyor.store.postgres.statements import quoted
from kit.borrowed import bodies
from kit.users import EVERY, Asyncpg, Django, User, claim, dialect, open_user

pytestmark = pytest.mark.anyio


@EVERY
async def test_a_transaction_that_is_read_only_or_has_failed_is_refused(app: Conveyor, user: User) -> None:
    await user.begin()
    await user.execute("SET TRANSACTION READ ONLY")
    with pytest.raises(InvalidTransactionError, match="read-only"):
        await user.run(lambda tx: app.queue("jobs").send(1, tx=tx))
    await user.rollback()
    await user.begin()
    with pytest.raises(Exception, match="zero"):
        await user.execute("SELECT 1/0")
    with pytest.raises(InvalidTransactionError, match="has failed|cannot be used"):
        await user.run(lambda tx: app.queue("jobs").send(1, tx=tx))
    await user.rollback()
    assert await bodies(app) == []


@EVERY
async def test_a_connection_to_another_store_is_refused_and_stays_usable(
    app: Conveyor, user: User, url: str, elsewhere: str
) -> None:
    """A database without the schema, and one where the schema of this name is another store."""
    for is_store in (False, True):
        if is_store:
            twin = PostgresStore(url.replace("/postgres", "/elsewhere"))
            await twin.open()
            await twin.close()
        async with open_user(type(user), app, elsewhere) as other:
            await other.begin()
            with pytest.raises(InvalidTransactionError, match="its database is not that of the queue"):
                await other.run(lambda tx: app.queue("jobs").send(1, tx=tx))
            assert await other.fetch("SELECT 1") == [1]
            await other.rollback()


async def test_a_connection_without_a_transaction_is_refused(app: Conveyor, dsn: str) -> None:
    queue = app.queue("jobs")
    plain = await asyncpg.connect(dsn)
    with pytest.raises(InvalidTransactionError, match="no transaction is open") as caught:
        await queue.send(1, tx=plain)
    assert "connection.transaction()" in caught.value.hint
    await plain.close()
    with pytest.raises(InvalidTransactionError, match="closed"):
        await queue.send(1, tx=plain)
    with psycopg.connect(dsn, autocommit=True) as sync:
        with pytest.raises(InvalidTransactionError, match="no transaction is open"):
            await queue.send(1, tx=sync)
        with sync.transaction():
            await queue.send(2, tx=sync)
    with pytest.raises(InvalidTransactionError, match="closed"):
        await queue.send(1, tx=sync)
    assert await bodies(app) == [b"2"]


async def test_sqlalchemy_in_autocommit_unstarted_or_over_something_else_is_refused(app: Conveyor, dsn: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.ext.asyncio import create_async_engine

    queue = app.queue("jobs")
    engine = create_engine(dialect(dsn, "psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(InvalidTransactionError, match="no transaction is open") as caught:
        await queue.send(1, tx=connection)
    assert "AUTOCOMMIT" in caught.value.hint
    engine.dispose()
    other = create_async_engine(dialect(dsn, "asyncpg"), isolation_level="AUTOCOMMIT")
    with pytest.raises(InvalidTransactionError, match="not started"):
        await queue.send(1, tx=other.connect())
    async with other.connect() as started:
        with pytest.raises(InvalidTransactionError, match="no transaction is open"):
            await queue.send(1, tx=started)
    with pytest.raises(InvalidTransactionError, match="cannot be used"):
        await queue.send(1, tx=started)
    await other.dispose()
    lite = create_engine("sqlite://")
    with lite.connect() as connection, pytest.raises(InvalidTransactionError, match=r"sqlite\+pysqlite"):
        await queue.send(1, tx=connection)
    with pytest.raises(InvalidTransactionError, match="cannot send on it"):
        await queue.send(1, tx=engine)
    lite.dispose()
    assert await bodies(app) == []


async def test_django_is_refused_on_an_event_loop_and_without_its_own_database(app: Conveyor, dsn: str) -> None:
    async with open_user(Django, app, dsn) as user:
        connections = importlib.import_module("django.db").connections
        with pytest.raises(InvalidTransactionError, match="event loop") as caught:
            await app.queue("jobs").send(1, tx=user.tx)
        assert "run_sync" in caught.value.hint
        with pytest.raises(InvalidTransactionError, match="no transaction is open") as caught:
            await user.run(lambda tx: app.queue("jobs").send(1, tx=tx))
        assert "atomic" in caught.value.hint
        lite = await asyncio.to_thread(lambda: connections["lite"])
        with pytest.raises(InvalidTransactionError, match="does not stand on psycopg|cannot be used"):
            await user.run(lambda _tx: app.queue("jobs").send(1, tx=lite))


async def test_a_connection_of_another_loop_is_refused(url: str, dsn: str) -> None:
    app = Conveyor("shop", url=url)
    app.declare_queue("jobs")
    await asyncio.to_thread(app.run_sync, app.ensure_open())
    connection = await asyncpg.connect(dsn)
    await connection.execute("BEGIN")
    with pytest.raises(InvalidTransactionError, match="another event loop"):
        await asyncio.to_thread(app.run_sync, app.queue("jobs").send(1, tx=connection))
    await connection.close()
    await asyncio.to_thread(app.run_sync, app.close())


@pytest.mark.parametrize("tx", [object(), True, "BEGIN", psycopg])
async def test_what_is_no_connection_is_refused(app: Conveyor, tx: object) -> None:
    with pytest.raises(InvalidTransactionError, match="cannot send on it") as caught:
        await app.queue("jobs").send(1, tx=tx)
    assert "psycopg 3" in caught.value.hint


RIGHTS = """
GRANT USAGE ON SCHEMA {schema} TO clerk;
GRANT SELECT ON {schema}.store, {schema}.queues, {schema}.counters, {schema}.dedupe, {schema}.messages, {schema}.leased TO clerk;
GRANT SELECT, INSERT ON {schema}.outbox TO clerk;
GRANT ALL ON {schema}.acks TO clerk;
GRANT UPDATE ON {schema}.leased TO clerk;
"""  # as docs/how-to/transactional-send-postgresql.md lists them


async def test_a_role_that_may_not_is_told_what_it_needs(app: Conveyor, url: str, dsn: str) -> None:
    there = await asyncpg.connect(dsn)
    await there.execute("CREATE ROLE clerk LOGIN")
    try:
        async with open_user(Asyncpg, app, dsn.replace("conveyor@", "clerk@")) as clerk:
            await clerk.begin()
            with pytest.raises(InvalidTransactionError, match="may not") as caught:
                await clerk.run(lambda tx: app.queue("once").send(1, dedupe="a", tx=tx))
            assert "GRANT" in caught.value.hint
            await clerk.rollback()
            await there.execute(RIGHTS.format(schema=quoted(read_address(url).schema)))
            await app.queue("jobs").send("done")
            message = await claim(app)
            await clerk.begin()
            await clerk.run(lambda tx: app.queue("once").send(1, dedupe="a", tx=tx))
            await clerk.run(lambda tx: app.queue("small").send(1, tx=tx))
            await clerk.run(lambda tx: message.ack(tx=tx))
            await clerk.execute(f"SELECT {quoted(read_address(url).schema)}.push('once', '2', dedupe => 'b')")
            await clerk.commit()
        assert (await bodies(app, "once"), await bodies(app, "small"), await bodies(app)) == ([b"1", b"2"], [b"1"], [])
    finally:
        await there.execute("DROP OWNED BY clerk; DROP ROLE clerk")
        await there.close()


async def test_a_closed_store_refuses(url: str, dsn: str) -> None:
    closed = Conveyor("shop", url=url)
    with pytest.raises(StoreClosedError):
        await closed.queue("jobs").send(1, tx=object())
