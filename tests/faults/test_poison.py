"""Handlers that kill their process: only the poison dies (F37)."""

from __future__ import annotations

import json
import os

import pytest

from kit.fleet import Fleet

APP = """
import os, signal
from pathlib import Path
from conveyor import Conveyor, Message

app = Conveyor("shop")
LOG = os.open(Path(os.environ["FOLDER"]) / "handled", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@app.consumer("jobs", max_retries=3)
async def handle(message: Message[dict]) -> None:
    if message.body["poison"]:
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(LOG, b"%d\\n" % message.body["n"])
"""

SEND = """
import asyncio, random, sys
from shop import app
async def main():
    poison = set(random.Random({seed}).sample(range({count}), {poison}))
    async with app:
        bodies = [dict(n=n, poison=n in poison) for n in range({count})]
        for start in range(0, {count}, 100):
            await app.queue("jobs").send_batch(bodies[start:start + 100])
asyncio.run(main())
"""

LOOK = """
import asyncio, json
from shop import app
async def main():
    async with app:
        dead = []
        after = 0
        while found := await app.store.peek("jobs-dlq", limit=100, after_seq=after):
            dead += [(json.loads(each.body), each.dead.reason) for each in found]
            after = found[-1].seq
        metrics = await app.store.metrics("jobs")
        print(json.dumps(dict(dead=dead, left=metrics.backlog_messages)))
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("count", "poison", "processes", "seconds"),
    [
        pytest.param(500, 5, 1, 60, id="ci"),
        pytest.param(10_000, 100, 2, 600, id="campaign", marks=pytest.mark.campaign),
    ],
)
@pytest.mark.timeout(700)
def test_one_percent_of_poison_kills_nobody_else(
    fleet: Fleet, count: int, poison: int, processes: int, seconds: float
) -> None:
    fleet.write_app(APP)
    fleet.run(SEND.format(seed=int(os.environ.get("SEED", "7")), count=count, poison=poison))
    fleet.work("--processes", str(processes))
    seen: dict[str, object] = {}

    def is_drained() -> bool:
        seen.update(json.loads(fleet.run(LOOK)))
        return seen["left"] == 0

    fleet.wait_until(is_drained, seconds=seconds)
    dead = seen["dead"]
    assert isinstance(dead, list)
    assert len(dead) == poison
    assert all(body["poison"] and reason == "crashes" for body, reason in dead)
    handled = {int(line) for line in (fleet.folder / "handled").read_text(encoding="ascii").split()}
    assert len(handled) == count - poison
