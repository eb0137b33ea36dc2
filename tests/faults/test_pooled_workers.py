"""A fleet behind a real PgBouncer in transaction mode: LISTEN is swallowed, and the poll delivers (F29, I13)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.fleet import Fleet
from kit.pgbouncer import the_pooler

APP = """
import os, time
from pathlib import Path
from conveyor import Conveyor, Message

app = Conveyor("shop")
LOG = os.open(Path(os.environ["FOLDER"]) / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@app.consumer("jobs", max_retries=3)
async def handle(message: Message[float]) -> None:
    os.write(LOG, b"%.6f %.6f\\n" % (message.body, time.monotonic()))
"""

SEND = """
import asyncio, random, time
from shop import app
async def main():
    dice = random.Random(7)
    async with app:
        for _ in range(20):
            await app.queue("jobs").send(time.monotonic())
            await asyncio.sleep(dice.uniform(0, 0.3))
asyncio.run(main())
"""

LOOK = """
import asyncio, json
from shop import app
async def main():
    async with app:
        print(json.dumps([(await app.store.metrics(queue)).backlog_messages for queue in ("jobs", "jobs-dlq")]))
asyncio.run(main())
"""

STARTED_S = 2.0
"""A poll, and a second (I13)."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, the_pooler().url())
    yield fleet
    fleet.close()


def test_workers_behind_a_pooler_find_what_nobody_tells_them(fleet: Fleet) -> None:
    fleet.write_app(APP)
    fleet.work("--processes", "2")
    fleet.wait_until(lambda: fleet.log().count("conveyor.worker.started") == 2)
    for tries in range(1, 4):  # a busy machine may hold one up
        fleet.run(SEND)
        fleet.wait_until(lambda: len(calls(fleet)) >= 20 * tries)
        fleet.wait_until(lambda: json.loads(fleet.run(LOOK)) == [0, 0])
        found = calls(fleet)
        assert len(found) == 20 * tries, "each once"
        waits = [at - sent for sent, at in found[-20:]]
        if max(waits) <= STARTED_S:
            break
    assert max(waits) <= STARTED_S


def calls(fleet: Fleet) -> list[tuple[float, float]]:
    path = fleet.folder / "calls"
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return sorted((float(sent), float(at)) for sent, at in map(str.split, lines))
