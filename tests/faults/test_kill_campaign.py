"""Many kills under load: every message is handled, none twice at once, none more often than it may be (F03, I2, I4)."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections import defaultdict

import pytest

from kit.fleet import Fleet

APP = """
import asyncio, os, time
from pathlib import Path
from conveyor import Conveyor, Message

app = Conveyor("shop")
LOG = os.open(Path(os.environ["FOLDER"]) / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@app.consumer("jobs", max_retries=3)
async def handle(message: Message[int]) -> None:
    started = time.monotonic()
    os.write(LOG, b"start %d %d %d %.6f\\n" % (message.body, message.attempts, os.getpid(), started))
    await asyncio.sleep(HANDLER_S)
    os.write(LOG, b"end %d %d %d %.6f\\n" % (message.body, message.attempts, os.getpid(), time.monotonic()))
"""

SEND = """
import asyncio
from shop import app
async def main():
    async with app:
        for first in range(0, {count}, 100):
            await app.queue("jobs").send_batch(list(range(first, min(first + 100, {count}))))
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


@pytest.mark.parametrize(
    ("count", "kills", "handler_s", "redelivery_s"),
    [
        pytest.param(5_000, 10, 0.1, 30.0, id="ci"),
        pytest.param(100_000, 1_000, 0.5, 2.0, id="campaign", marks=pytest.mark.campaign),
    ],
)
@pytest.mark.timeout(1_500)
def test_kills_under_load_lose_no_message(
    fleet: Fleet, count: int, kills: int, handler_s: float, redelivery_s: float
) -> None:
    chance = random.Random(int(os.environ.get("SEED", "11")))
    fleet.write_app(APP.replace("HANDLER_S", str(handler_s)))
    fleet.run(SEND.format(count=count))
    tree = fleet.work("--processes", "4", "--concurrency", "20")
    fleet.wait_until((fleet.folder / "calls").exists)
    killed_at = kill_workers(fleet, tree, chance, kills)
    left: list[int] = []

    def is_drained() -> bool:
        left[:] = json.loads(fleet.run(LOOK))
        return left[0] == 0

    fleet.wait_until(is_drained, seconds=900)
    history = judge(fleet, killed_at)
    assert left == [0, 0], "a kill is nobody's fault but the kill's: nothing is dead"
    assert history.ended == set(range(count)), "nothing is lost"
    assert history.most_attempts <= 4
    assert history.overlaps == 0
    assert history.redelivery_s(0.99) <= redelivery_s


def kill_workers(
    fleet: Fleet, tree: subprocess.Popen[bytes], chance: random.Random, kills: int
) -> dict[int, float]:
    """Kill a worker that works, as soon as there is one, and no more than two a second; when each was killed."""
    killed_at: dict[int, float] = {}
    working: set[int] = set()
    with (fleet.folder / "calls").open(encoding="ascii") as log:
        while len(killed_at) < kills:
            fleet.rest(0.5)
            working |= {int(line.split()[3]) for line in log if line.endswith("\n")}
            victims = sorted(working.intersection(fleet.workers(tree)).difference(killed_at))
            if victims:
                pid = chance.choice(victims)
                os.kill(pid, signal.SIGKILL)
                killed_at[pid] = time.monotonic()
            elif fleet.run(LOOK).startswith("[0,"):
                pytest.fail(f"drained after {len(killed_at)} kills: send more")
    return killed_at


class History:
    """What the calls' log says."""

    def __init__(self) -> None:
        self.ended: set[int] = set()
        self.most_attempts = 0
        self.overlaps = 0
        self._waits: list[float] = []

    def add(self, n: int, calls: list[tuple[float, float | None, int, int]], killed_at: dict[int, float]) -> None:
        """One message's calls in order: start, end (None: it never came), attempt, pid."""
        for (_, end, _, pid), (start, *_rest) in itertools.pairwise(calls):
            over = end if end is not None else killed_at.get(pid)
            if over is None:
                continue  # in a child whose worker was killed: the log cannot tell when
            if start < over:
                self.overlaps += 1
            elif end is None:
                self._waits.append(start - over)
        self.most_attempts = max(self.most_attempts, *(attempt for _, _, attempt, _ in calls))
        if any(end is not None for _, end, _, _ in calls):
            self.ended.add(n)

    def redelivery_s(self, share: float) -> float:
        """Seconds from a kill until its messages ran again."""
        waits = sorted(self._waits)
        return waits[min(len(waits) - 1, int(len(waits) * share))] if waits else 0.0


def judge(fleet: Fleet, killed_at: dict[int, float]) -> History:
    calls: dict[int, list[tuple[float, float | None, int, int]]] = defaultdict(list)
    for line in (fleet.folder / "calls").read_text(encoding="ascii").splitlines():
        what, n, attempt, pid, at = line.split()
        if what == "start":
            calls[int(n)].append((float(at), None, int(attempt), int(pid)))
        else:
            last = next(i for i, call in enumerate(calls[int(n)]) if call[1] is None and call[3] == int(pid))
            calls[int(n)][last] = (*calls[int(n)][last][:1], float(at), *calls[int(n)][last][2:])
    history = History()
    for number, of_message in calls.items():
        history.add(number, sorted(of_message, key=lambda call: call[0]), killed_at)
    (fleet.folder / "redelivery.txt").write_text(f"p99 {history.redelivery_s(0.99):.3f} s, p50 {history.redelivery_s(0.5):.3f} s\n")
    return history
