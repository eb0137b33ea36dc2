"""`message.ack(tx=...)`: a message is done if and when the user's own transaction is committed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from conveyor import Conveyor, LeaseLostError, Message
from conveyor.model.errors import InvalidTransactionError
from conveyor.model.events import Event, MessageFailed
from conveyor.model.verdict import Action, Settlement
from conveyor.queue.delivery import Fence
from conveyor.store.records import ClaimRequest, Ending, Evidence, OwnerInfo
from kit.borrowed import bodies, connect

pytestmark = pytest.mark.anyio


async def claim(app: Conveyor) -> Message[Any]:
    """The next message, as a worker of its own hands it to a handler."""
    owner = await app.store.register_owner(OwnerInfo(app="shop", host=app.store.host, pid=1, supervisor_pid=1))
    [lease] = (await app.store.claim(ClaimRequest(queue="jobs", owner=owner, limit=1))).leases
    return Message(lease, None, None, Fence(owner, app.store.join))


async def reap(app: Conveyor, message: Message[Any]) -> None:
    assert message._fence is not None
    await app.store.reap_owner(message._fence.owner, Evidence(ending=Ending.EXITED))


async def test_the_ack_is_part_of_the_transaction(app: Conveyor, user: apsw.Connection) -> None:
    await app.queue("jobs").send(1)
    message = await claim(app)
    user.execute("BEGIN IMMEDIATE")
    await message.ack(tx=user)
    user.execute("ROLLBACK")
    assert (await app.queue("jobs").metrics()).backlog_messages == 1
    user.execute("BEGIN IMMEDIATE")  # the user tries again
    await message.ack(tx=user)
    await app.queue("once").send("next", tx=user)
    user.execute("COMMIT")
    assert (await bodies(app), await bodies(app, "once")) == ([], [b'"next"'])
    assert (await app.queue("jobs").metrics()).backlog_messages == 0


async def test_a_lost_lease_is_raised_inside_the_transaction(app: Conveyor, user: apsw.Connection) -> None:
    await app.queue("jobs").send(1)
    message = await claim(app)
    await reap(app, message)
    with pytest.raises(LeaseLostError), user:
        user.execute("INSERT INTO orders VALUES (1)")
        await message.ack(tx=user)
    assert message.lease_lost
    assert message.verdict is None
    assert user.execute("SELECT n FROM orders").get is None


@pytest.mark.parametrize("is_done", [False, True])
async def test_what_somebody_else_has_or_has_done_is_lost(
    app: Conveyor, user: apsw.Connection, *, is_done: bool
) -> None:
    await app.queue("jobs").send(1)
    message = await claim(app)
    await reap(app, message)
    other = await claim(app)
    user.execute("BEGIN IMMEDIATE")
    if is_done:
        await other.ack(tx=user)
        user.execute("COMMIT")
        user.execute("BEGIN IMMEDIATE")
    with pytest.raises(LeaseLostError):
        await message.ack(tx=user)
    user.execute("ROLLBACK")


async def test_an_earlier_lease_of_the_same_worker_is_lost(app: Conveyor, user: apsw.Connection) -> None:
    await app.queue("jobs").send(1)
    message = await claim(app)
    fence, lease = message._fence, message._lease
    assert fence is not None
    await app.store.settle(fence.owner, [Settlement(lease.seq, lease.claim, Action.RELEASE)])
    [again] = (await app.store.claim(ClaimRequest(queue="jobs", owner=fence.owner, limit=1))).leases
    user.execute("BEGIN IMMEDIATE")
    with pytest.raises(LeaseLostError):
        await message.ack(tx=user)
    await Message(again, None, None, fence).ack(tx=user)
    user.execute("COMMIT")
    assert await bodies(app) == []


async def test_the_first_word_wins(app: Conveyor, user: apsw.Connection) -> None:
    await app.queue("jobs").send(1)
    message = await claim(app)
    message.retry()
    user.execute("BEGIN IMMEDIATE")
    await message.ack(tx=user)
    user.execute("COMMIT")
    assert await bodies(app) == [b"1"]


async def test_a_message_of_no_worker_has_no_lease_to_end(app: Conveyor, user: apsw.Connection) -> None:
    await app.queue("jobs").send(1)
    lease = (await claim(app))._lease
    with pytest.raises(InvalidTransactionError, match="no worker delivered"):
        await Message(lease, None).ack(tx=user)


# Through a worker


async def work(app: Conveyor, rounds: int) -> list[Event]:
    """Work until the handler has been called so often and the queue is empty; what failed."""
    failed: list[Event] = []
    app.emit = lambda event: failed.append(event) if isinstance(event, MessageFailed) else None
    working = asyncio.create_task(app.work(queues=["acked"]))
    async with asyncio.timeout(60):
        while (await app.queue("acked").metrics()).backlog_messages or CALLS[app.name] < rounds:
            await asyncio.wait([working], timeout=0.02)
            assert not working.done()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return failed


CALLS: dict[str, int] = {}
ENDS = ["COMMIT", "COMMIT and raise", "ROLLBACK", "ROLLBACK and raise"]


@pytest.mark.parametrize("end", ENDS)
async def test_a_worker_retries_what_was_rolled_back_and_only_that(tmp_path: Path, end: str) -> None:
    app = Conveyor(end.replace(" ", "-"), url=f"sqlite:///{tmp_path}/store.db")
    CALLS[app.name] = 0

    @app.consumer("acked", max_retries=3)
    async def handle(message: Message[int]) -> None:
        CALLS[app.name] += 1
        is_first = message.attempts == 1
        user = connect(tmp_path)
        with contextlib.closing(user):
            user.execute("BEGIN IMMEDIATE")
            user.execute("CREATE TABLE IF NOT EXISTS done (n)")
            user.execute("INSERT INTO done VALUES (?)", (message.body,))
            await message.ack(tx=user)
            user.execute(end.split(maxsplit=1)[0] if is_first else "COMMIT")
        if is_first and end.endswith("raise"):
            raise OSError

    async with app:
        await app.queue("acked").send(7)
        calls = 2 if end.startswith("ROLLBACK") else 1
        failed = await work(app, calls)
        assert CALLS[app.name] == calls
        assert await bodies(app, "acked-dlq") == []
        assert connect(tmp_path).execute("SELECT n FROM done").fetchall() == [(7,)]
        assert len(failed) == end.endswith("raise")


CHILD = """
import contextlib, os
import apsw
from conveyor import Conveyor, Message

app = Conveyor("shop")

@app.consumer("acked", max_retries=3, run_in="process")
def handle(message: Message[int]) -> None:
    user = apsw.Connection(os.environ["FOLDER"] + "/store.db")
    user.set_busy_timeout(60_000)  # the worker writes too
    with contextlib.closing(user), contextlib.suppress(KeyError), user:
        user.execute("CREATE TABLE IF NOT EXISTS done (n)")
        user.execute("INSERT INTO done VALUES (?)", (message.body * 10 + message.attempts,))
        app.run_sync(message.ack(tx=user))
        if message.attempts == 1:
            raise KeyError
"""


async def test_a_handler_in_a_child_may_do_the_same(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(CHILD, encoding="utf-8")
    environment = {**os.environ, "CONVEYOR_URL": f"sqlite:///{tmp_path}/store.db", "FOLDER": str(tmp_path)}
    app = Conveyor("shop", url=environment["CONVEYOR_URL"])
    app.declare_queue("acked")
    async with app:
        await app.queue("acked").send(7)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "conveyor", "work", "shop:app", cwd=tmp_path, env=environment
        )  # fmt: skip
        async with asyncio.timeout(60):
            while (await app.queue("acked").metrics()).backlog_messages:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), timeout=0.05)
                    raise AssertionError("the workers ended")
        process.terminate()
        await process.wait()
        assert connect(tmp_path).execute("SELECT n FROM done").fetchall() == [(72,)]
        assert await bodies(app, "acked-dlq") == []
