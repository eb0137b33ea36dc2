"""Sends inside the user's own transaction on the same PostgreSQL database, by every driver (F13)."""

from __future__ import annotations

import pytest

from conveyor import BodyTooLargeError, Conveyor, Outgoing, QueueFullError, QueueNotFoundError
from kit.borrowed import bodies
from kit.users import EVERY, User

pytestmark = pytest.mark.anyio


@EVERY
async def test_a_message_is_there_if_and_only_if_the_transaction_commits(app: Conveyor, user: User) -> None:
    queue = app.queue("jobs")
    await user.begin()
    await user.execute("INSERT INTO orders VALUES (1)")
    sent = await user.run(lambda tx: queue.send({"n": 1}, tx=tx))
    assert await bodies(app) == []
    await user.commit()
    [found] = await app.store.peek("jobs", limit=10)
    assert (found.id.hex(), found.body) == (sent.id, b'{"n":1}')
    await user.begin()
    await user.execute("INSERT INTO orders VALUES (2)")
    await user.run(lambda tx: queue.send_batch(["a", b"b"], tx=tx))
    await user.rollback()
    assert len(await bodies(app)) == (await queue.metrics()).backlog_messages == 1
    await user.begin()
    assert await user.fetch("SELECT n FROM orders") == [1]
    await user.rollback()


@EVERY
async def test_a_savepoint_that_is_rolled_back_drops_its_messages_alone(app: Conveyor, user: User) -> None:
    queue = app.queue("jobs")
    await user.begin()
    await user.run(lambda tx: queue.send(1, tx=tx))
    await user.execute("SAVEPOINT mine")
    await user.run(lambda tx: queue.send(2, tx=tx))
    await user.execute("ROLLBACK TO SAVEPOINT mine")
    await user.run(lambda tx: queue.send_batch([3, 4], tx=tx))
    await user.commit()
    assert await bodies(app) == [b"1", b"3", b"4"]
    assert (await queue.metrics()).backlog_messages == 3


@EVERY
async def test_what_a_send_refuses_leaves_the_transaction_usable(app: Conveyor, user: User) -> None:
    small = app.queue("small")
    await user.begin()
    await user.execute("INSERT INTO orders VALUES (1)")
    with pytest.raises(QueueNotFoundError):
        await user.run(lambda tx: app.queue("none").send(1, tx=tx))
    await user.run(lambda tx: small.send(1, tx=tx))
    with pytest.raises(QueueFullError):
        await user.run(lambda tx: small.send(2, tx=tx))
    with pytest.raises(BodyTooLargeError):
        await user.run(lambda tx: small.send("x" * 101, tx=tx))
    assert await user.run(lambda tx: app.queue("jobs").send_batch([], tx=tx)) == []
    await user.commit()
    with pytest.raises(QueueFullError):
        await small.send(2)
    assert await bodies(app, "small") == [b"1"]


@EVERY
async def test_dedupe_holds_in_and_across_transactions(app: Conveyor, user: User) -> None:
    queue = app.queue("once")
    await user.begin()
    first = await user.run(lambda tx: queue.send(1, dedupe="a", tx=tx))
    again = await user.run(lambda tx: queue.send(2, dedupe="a", tx=tx))
    both = await user.run(lambda tx: queue.send_batch([Outgoing(3, dedupe="c"), Outgoing(4, dedupe="c")], tx=tx))
    await user.commit()
    assert (again.id, again.deduped, first.deduped) == (first.id, True, False)
    assert [each.deduped for each in both] == [False, True]
    assert (await queue.send(5, dedupe="a")).id == first.id
    await user.begin()
    assert (await user.run(lambda tx: queue.send(6, dedupe="a", tx=tx))).id == first.id
    await user.run(lambda tx: queue.send(7, dedupe="b", tx=tx))
    await user.rollback()
    assert not (await queue.send(8, dedupe="b")).deduped
    assert await bodies(app, "once") == [b"1", b"3", b"8"]


@EVERY
async def test_the_session_is_left_as_it_was(app: Conveyor, user: User) -> None:
    """Whatever the user's search path, settings and temporary tables are."""
    await user.begin()
    await user.execute("SET LOCAL search_path TO pg_catalog")
    await user.execute("SET LOCAL statement_timeout TO '61s'")
    for name in ("outbox", "queues", "store", "leased"):
        await user.execute(f"CREATE TEMP TABLE {name} (mine text) ON COMMIT DROP")
    before = await user.fetch("SELECT name || '=' || setting FROM pg_settings WHERE name !~ 'query_id' ORDER BY name")
    prepared = await user.fetch("SELECT count(*) FROM pg_prepared_statements")
    await user.run(lambda tx: app.queue("once").send(1, dedupe="a", tx=tx))
    assert await user.fetch("SELECT name || '=' || setting FROM pg_settings WHERE name !~ 'query_id' ORDER BY name") == before
    if "syncpg" not in type(user).__name__ and "Alchemy" not in type(user).__name__:  # these prepare what they are given
        assert await user.fetch("SELECT count(*) FROM pg_prepared_statements") == prepared
    await user.commit()
    assert await bodies(app, "once") == [b"1"]
