"""Workers killed with SIGKILL while they work: nothing is lost, nothing runs beyond the limit (F03, F45)."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from kit.fleet import Fleet

HANDLER_S = 0.25

APP = """
import asyncio, os, time
from pathlib import Path
from conveyor import Conveyor, Message

app = Conveyor("shop")
LOG = os.open(Path(os.environ["FOLDER"]) / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(what, n):
    os.write(LOG, b"%s %d %d %.6f\\n" % (what, n, os.getpid(), time.monotonic()))

@app.consumer("jobs", max_batch_size=1, max_concurrency=2, max_retries=3)
async def handle(message: Message[int]) -> None:
    note(b"start", message.body)
    await asyncio.sleep(HANDLER_S)
    note(b"end", message.body)
"""

SEND = """
import asyncio
from shop import app
async def main():
    async with app:
        await app.queue("jobs").send_batch(list(range({count})))
asyncio.run(main())
"""

LOOK = """
import asyncio, json
from shop import app
async def main():
    async with app:
        jobs, dead = await app.store.metrics("jobs"), await app.store.metrics("jobs-dlq")
        print(json.dumps([jobs.backlog_messages, dead.backlog_messages]))
asyncio.run(main())
"""


def read_calls(folder: Path) -> list[tuple[str, int, int, float]]:
    lines = (folder / "calls").read_text(encoding="ascii").splitlines()
    return [(what, int(n), int(pid), float(at)) for what, n, pid, at in (line.split() for line in lines)]


def most_at_once(calls: list[tuple[str, int, int, float]], killed: dict[int, float]) -> int:
    """The peak of running calls. One whose process was killed ended with it; a child's, with its last sign of life."""
    events: list[tuple[float, int]] = []
    open_calls: dict[tuple[int, int], float] = {}
    for what, n, pid, at in sorted(calls, key=lambda call: call[3]):
        if what == "start":
            open_calls[n, pid] = at
        else:
            events += [(open_calls.pop((n, pid)), 1), (at, -1)]
    events += [moment for (_, pid), at in open_calls.items() for moment in ((at, 1), (killed.get(pid, at), -1))]
    running = peak = 0
    for _, step in sorted(events):
        running += step
        peak = max(peak, running)
    return peak


@pytest.mark.parametrize(
    ("count", "kills"),
    [
        pytest.param(20, 4, id="ci"),
        pytest.param(50, int(os.environ.get("KILLS", "20")), id="campaign", marks=pytest.mark.campaign),
    ],
)
@pytest.mark.timeout(300)
def test_killed_workers_lose_nothing_and_keep_to_the_limit(fleet: Fleet, count: int, kills: int) -> None:
    chance = random.Random(int(os.environ.get("SEED", "11")))
    fleet.write_app(APP.replace("HANDLER_S", str(HANDLER_S)))
    fleet.run(SEND.format(count=count))
    tree = fleet.work("--processes", "3")
    fleet.wait_until(lambda: (fleet.folder / "calls").exists() and len(read_calls(fleet.folder)) > 0)
    killed: dict[int, float] = {}
    for _ in range(kills):
        before = time.monotonic()
        fleet.wait_until(lambda: time.monotonic() - before > 3 * HANDLER_S)
        victims = fleet.workers(tree)
        if victims:
            pid = chance.choice(victims)
            os.kill(pid, signal.SIGKILL)
            killed[pid] = time.monotonic()
    seen: list[int] = []

    def is_drained() -> bool:
        seen[:] = json.loads(fleet.run(LOOK))
        return seen[0] == 0

    fleet.wait_until(is_drained, seconds=60)
    calls = read_calls(fleet.folder)
    assert seen == [0, 0], "the dead letter queue is empty"
    assert {n for what, n, _, _ in calls if what == "end"} == set(range(count))
    assert most_at_once(calls, killed) <= 2
