"""A fleet whose queues lie in two files: killed workers, a store that is away, and messages that no route leads to."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator
from functools import partial

import pytest

from conveyor.model.ids import IdSource
from conveyor.model.message import Draft
from conveyor.model.settings import QueueSettings
from conveyor.store.records import Ending
from conveyor.store.sqlite import SQLiteStore
from conveyor.testing.factories import an_ending
from kit.shop import Shop

pytestmark = pytest.mark.anyio

TABLE = """
[tool.conveyor.stores]
far = "sqlite:///data/far.db"
[tool.conveyor.routes]
"video" = "far"
"""
GATED = """
@app.consumer("jobs", max_retries=3)
async def near(message: Message[int]) -> None:
    say("began", "near", message.body, os.getpid(), message.attempts)
    await until_file("go")
    say("ended", "near", message.body, os.getpid(), message.attempts)

@app.consumer("video", max_retries=3)
async def far(message: Message[int]) -> None:
    say("began", "far", message.body, os.getpid(), message.attempts)
    await until_file("go")
    say("ended", "far", message.body, os.getpid(), message.attempts)
"""
BRIEF = GATED.replace('await until_file("go")', "await asyncio.sleep(0.1)")


@pytest.fixture
async def far(shop: Shop) -> AsyncIterator[SQLiteStore]:
    """The other file of the shop, which its settings name."""
    (shop.folder / "pyproject.toml").write_text(TABLE, encoding="utf-8")
    (shop.folder / "data").mkdir()
    store = SQLiteStore(shop.folder / "data" / "far.db")
    await store.open()
    await store.create_queue("video", QueueSettings())
    yield store
    await store.close()


async def send(store: SQLiteStore, *bodies: int, queue: str = "video") -> None:
    ids = IdSource(store.clock)
    await store.append([Draft(id=ids.new(), queue=queue, body=str(body).encode()) for body in bodies])


def has_ended(shop: Shop, count: int) -> bool:
    return len(shop.said("ended")) >= count


async def test_a_killed_worker_s_messages_are_redelivered_in_both_stores(shop: Shop, far: SQLiteStore) -> None:
    shop.write(GATED)
    await shop.send(1)
    await send(far, 2)
    shop.start()
    await shop.until(lambda: len(shop.said("began")) == 2)
    os.kill(int(shop.said("began")[0][3]), signal.SIGKILL)
    shop.touch("go")
    await shop.until(lambda: len(shop.said("ended")) == 2)
    assert {(words[1], words[4]) for words in shop.said("ended")} == {("near", "1"), ("far", "1")}, "neither is charged"


async def test_kills_lose_nothing_in_either_store(shop: Shop, far: SQLiteStore) -> None:
    chance = random.Random(int(os.environ.get("SEED", "7")))
    shop.write(BRIEF)
    await shop.send(*range(40))
    await send(far, *range(40))
    tree = shop.start("--processes", "2", "--concurrency", "4")
    for count in (8, 24, 40):
        await shop.until(partial(has_ended, shop, count))
        os.kill(chance.choice(shop.workers(tree)), signal.SIGKILL)
    await shop.until_empty("jobs")
    await shop.until_async(lambda: _is_empty(far, "video"))
    for where in ("near", "far"):
        assert {int(words[2]) for words in shop.said("ended") if words[1] == where} == set(range(40))
    assert await shop.dead() == []
    assert (await far.metrics("video-dlq")).backlog_messages == 0


async def test_one_store_away_from_the_start_stops_nothing_and_is_served_when_it_comes(shop: Shop) -> None:
    (shop.folder / "pyproject.toml").write_text(TABLE, encoding="utf-8")
    shop.write(BRIEF)
    await shop.send(1)
    tree = shop.start()
    await shop.until(lambda: shop.said("ended"))
    os.kill(shop.workers(tree)[0], signal.SIGKILL)
    await shop.send(2)
    await shop.until(lambda: len(shop.said("ended")) == 2)
    await shop.until(lambda: shop.log().count("conveyor.declaration.delayed") >= 2)
    log = shop.log()
    assert log.count("conveyor.declaration.delayed") == 2 and "`far` cannot be reached" in log, "said once by each worker"
    (shop.folder / "data").mkdir()
    late = SQLiteStore(shop.folder / "data" / "far.db")
    await shop.until((shop.folder / "data" / "far.db").exists)
    await late.open()
    try:
        await shop.until_async(lambda: _has_consumer(late))
        await send(late, 7)
        await shop.until(lambda: any(words[1] == "far" for words in shop.said("ended")))
    finally:
        await late.close()


async def _is_empty(store: SQLiteStore, queue: str) -> bool:
    return (await store.metrics(queue)).backlog_messages == 0


async def _has_consumer(store: SQLiteStore) -> bool:
    return [info.consumer is not None for info in await store.list_queues() if info.name == "video"] == [True]


async def test_messages_that_no_route_leads_to_are_told_and_worked_off_by_the_routes_of_before(
    shop: Shop, far: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(BRIEF)
    await shop.send(1, queue="video")  # as it was before there was a route
    tree = shop.start()
    await shop.until(lambda: "conveyor.queue.stray" in shop.log())
    assert shop.said() == []
    monkeypatch.setenv("CONVEYOR_ROUTES", "{}")
    shop.start("--queues", "video")
    await shop.until(lambda: [words[2] for words in shop.said("ended")] == ["1"])
    await shop.until_empty("video")
    tree.send_signal(signal.SIGTERM)
    assert shop.wait(tree) == 0


async def test_a_worker_whose_lease_is_over_in_one_store_is_replaced_and_what_it_has_elsewhere_is_not_charged(
    shop: Shop, far: SQLiteStore
) -> None:
    shop.write(GATED)
    await shop.send(1)
    shop.start()
    await shop.until(lambda: shop.said("began"))

    async def is_known() -> bool:
        return len(await far.list_owners()) == 1

    await shop.until_async(is_known)
    (row,) = await far.list_owners()
    await far.reap_owner(row.owner, an_ending(Ending.LOST))  # as others do whom the store reaches, and us not
    await shop.until(lambda: len(shop.said("began")) == 2)
    shop.touch("go")
    await shop.until(lambda: shop.said("ended"))
    assert shop.said("ended")[0][4] == "1"
    assert "its lease was over" in shop.log()
