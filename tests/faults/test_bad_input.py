"""What nobody should send, declare or run on: each is refused with a code and a hint, costs nobody else, and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor, ConveyorError, Message
from conveyor.model.events import Event, MessageDeadLettered, MessageFailed
from conveyor.model.message import ContentType
from conveyor.store.protocol import Store
from conveyor.testing.factories import a_draft
from kit.disk import small_disk
from kit.shop import Shop, open_shop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Conveyor]:
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/shop.db")
    app.declare_queue("jobs")
    async with app:
        yield app


def fill(disk: Path) -> Path:
    """Take all the space that is left."""
    path = disk / "filler"
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
    return path


# What is sent


@pytest.mark.parametrize(
    ("body", "options", "code"),
    [
        ("x" * 128_000, {}, "body_too_large"),
        ({"n": float("nan")}, {}, "invalid_message"),
        (object(), {}, "invalid_message"),
        ("\ud800", {}, "invalid_message"),
        (1, {"delay": float("nan")}, "invalid_duration"),
        (1, {"delay": float("inf")}, "invalid_duration"),
        (1, {"delay": -1}, "invalid_duration"),
        (1, {"delay": "2d"}, "invalid_duration"),
        (1, {"priority": 10}, "invalid_message"),
        (1, {"key": ""}, "invalid_message"),
        (1, {"content_type": "pickle"}, "invalid_message"),
        (b"\xff", {"content_type": "text"}, "invalid_message"),
        (1, {"headers": {"x": "y" * 4_096}}, "body_too_large"),
    ],
)
async def test_bad_send_is_refused_before_anything_is_written(
    app: Conveyor, body: object, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(ConveyorError) as caught:
        await app.queue("jobs").send(body, **options)
    assert caught.value.code == code
    assert (await app.queue("jobs").metrics()).backlog_messages == 0
    await app.queue("jobs").send("and the next one goes")


async def test_one_bad_message_fails_its_batch_as_a_whole(app: Conveyor) -> None:
    with pytest.raises(ConveyorError):
        await app.queue("jobs").send_batch([1, object(), 3])
    with pytest.raises(ConveyorError) as caught:
        await app.queue("jobs").send_batch(["x" * 100_000] * 3)
    assert (caught.value.code, bool(caught.value.hint)) == ("body_too_large", True)
    assert (await app.queue("jobs").metrics()).backlog_messages == 0


async def test_unknown_queue_is_named_with_a_hint(app: Conveyor) -> None:
    with pytest.raises(ConveyorError) as caught:
        await app.queue("jbos").send(1)
    assert caught.value.code == "queue_not_found"
    assert "`jbos`" in caught.value.message
    assert "@app.consumer('jbos')" in caught.value.hint


async def test_bodies_that_cannot_be_read_are_dead_lettered_and_the_others_handled(tmp_path: Path) -> None:
    events: list[Event] = []
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/shop.db", emit=events.append)
    handled: asyncio.Queue[int] = asyncio.Queue()

    @app.consumer("jobs", max_retries=1)
    async def handle(message: Message[int]) -> None:
        handled.put_nowait(message.body)

    async with app:
        bad = [b"{not json", b'"text"', b"\xff\xfe", b"[" * 100_000, b""]
        await app.store.append([a_draft(queue="jobs", body=body) for body in bad])
        await app.store.append([a_draft(queue="jobs", body=b"\x00", content_type=ContentType.BYTES)])
        await app.queue("jobs").send(7)
        working = asyncio.create_task(app.work())
        assert await asyncio.wait_for(handled.get(), 60) == 7
        async with asyncio.timeout(60):
            while (await app.queue("jobs").metrics()).backlog_messages:
                await app.store.clock.sleep(0.02)
        await app.queue("jobs").send(8)
        assert await asyncio.wait_for(handled.get(), 60) == 8
        dead = await app.store.peek("jobs-dlq", limit=100)
        working.cancel()
        await asyncio.wait([working])
    assert len(dead) == len(bad) + 1
    assert all(each.dead is not None and "BodyDecodeError" in str(each.dead.last_error) for each in dead)
    assert sum(isinstance(each, MessageDeadLettered) for each in events) == len(dead)
    assert sum(isinstance(each, MessageFailed) for each in events) == 2 * len(dead)


# What is declared


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("61 * * * *", "cron_syntax"),
        ("* * * * * *", "five are needed"),
        ("0 0 30 2 *", "no date ever matches"),
    ],
)
async def test_bad_cron_line_ends_the_start_in_one_line(tmp_path: Path, line: str, words: str) -> None:
    async with open_shop(tmp_path) as shop:
        shop.write(f"@app.cron('{line}')\nasync def daily(run) -> None: ...\n")
        tree = shop.start()
        assert shop.wait(tree) == 1
        assert words in shop.log()
        assert "hint: " in shop.log()
        assert "Traceback" not in shop.log()


# What it runs on

IDLE = """
@app.consumer("jobs")
async def handle(message: Message[int]) -> None:
    say("handled", message.body, message.attempts, os.getpid())
"""


async def test_read_only_disk_is_refused_in_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        async with open_shop(tmp_path, disk) as shop:
            shop.write(IDLE)
            await shop.store.close()
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)  # noqa: ASYNC221  # nothing else runs meanwhile
            tree = shop.start()
            assert shop.wait(tree) == 1
            assert "[store_read_only]" in shop.log()
            assert "hint: check the owner and mode" in shop.log()
            assert "Traceback" not in shop.log()
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)  # noqa: ASYNC221  # nothing else runs meanwhile
            await shop.store.open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write what is marked as read-only")
async def test_read_only_file_is_refused_in_one_line(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.write(IDLE)
        await shop.store.close()
        (tmp_path / "shop.db").chmod(0o444)
        tree = shop.start()
        assert shop.wait(tree) == 1
        assert "[store_read_only]" in shop.log()
        (tmp_path / "shop.db").chmod(0o644)
        await shop.store.open()


async def test_full_disk_refuses_sends_and_keeps_what_it_confirmed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        app = Conveyor("shop", url=f"sqlite:///{disk}/shop.db")
        app.declare_queue("jobs")
        async with app:
            confirmed = 0
            with pytest.raises(ConveyorError) as caught:
                while True:
                    if confirmed == 5:
                        fill(disk)
                    await app.queue("jobs").send("x" * 50_000)
                    confirmed += 1
            assert caught.value.code == "store_full"
            assert caught.value.hint
            assert await _count(app.store) == confirmed
            (disk / "filler").unlink()
            await app.queue("jobs").send("x" * 50_000)
            assert await _count(app.store) == confirmed + 1


async def test_workers_sit_out_a_full_disk_and_go_on_without_a_restart(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        async with open_shop(tmp_path, disk) as shop:
            shop.write("""
@app.consumer("jobs", max_retries=0)
async def handle(message: Message[int]) -> None:
    say("began", message.body, os.getpid())
    await until_file("go")
    say("handled", message.body, os.getpid())
""")
            await shop.send(*range(50))
            tree = shop.start()
            await shop.until(lambda: len(shop.said("began")) == 50)
            [pid] = shop.workers(tree)
            await _fill_up(shop, disk)
            shop.touch("go")
            await shop.until(lambda: len(shop.said("handled")) == 50)
            await shop.until(lambda: "conveyor.settle.failed" in shop.log())
            (disk / "filler").unlink()
            await shop.until_empty()
            assert len(shop.said("handled")) == 50
            assert shop.workers(tree) == [pid]
            assert await shop.dead() == []
            assert "died" not in shop.log()


async def test_worker_that_dies_on_a_full_disk_is_replaced_when_there_is_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        async with open_shop(tmp_path, disk) as shop:
            shop.write(IDLE)
            tree = shop.start()
            await shop.until(lambda: "conveyor.worker.started" in shop.log())
            [pid] = shop.workers(tree)
            await shop.send(1)
            await shop.until(lambda: shop.said("handled"))
            await _fill_up(shop, disk)
            os.kill(pid, signal.SIGKILL)
            await shop.until(lambda: "conveyor.worker.delayed" in shop.log())
            assert tree.poll() is None
            (disk / "filler").unlink()
            await shop.send(2)
            await shop.until(lambda: len(shop.said("handled")) == 2)
            tree.send_signal(signal.SIGTERM)
            assert shop.wait(tree) == 0


async def _fill_up(shop: Shop, disk: Path) -> None:
    """Until not even a message of a few bytes goes in: the log's own file has room of its own for some."""
    await shop.send(0, queue="ballast")
    fill(disk)
    with pytest.raises(ConveyorError):
        while True:
            await shop.store.append([a_draft(queue="ballast", body=b'"' + b"x" * 2_000 + b'"')])
            fill(disk)


async def _count(store: Store) -> int:
    return (await store.metrics("jobs")).backlog_messages
