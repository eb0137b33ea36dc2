"""Handlers that kill their process: only the poison dies, within its budget, and nobody else loses an attempt (F37)."""

from __future__ import annotations

import json
import random
import time

import pytest

from conveyor.model.message import CRASH_BUDGET
from conveyor.store.protocol import Store
from kit.campaign import KILLS, SEED, Report
from kit.checker import judge
from kit.fleet import Fleet

APP = """
import ctypes

@app.consumer("jobs", max_retries=3)
async def handle(message: Message[dict]) -> None:
    with history.call(message):
        if message.body["poison"]:
            history.note(What.KILLED, pid=os.getpid())
        match message.body["poison"]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fault":
                ctypes.string_at(0)
            case "exit":
                os._exit(0)
"""
POISONS = ["kill", "fault", "exit"]


@pytest.mark.parametrize(
    ("count", "processes"),
    [
        pytest.param(300, 1, id="ci"),
        pytest.param(max(500, 10 * KILLS), 2, id="campaign", marks=[pytest.mark.campaign, pytest.mark.timeout(700)]),
    ],
)
def test_one_percent_of_poison_kills_nobody_else(fleet: Fleet, report: Report, count: int, processes: int) -> None:
    poison = random.Random(SEED).sample(range(count), count // 100)
    fleet.write_app(APP)
    fleet.send({"n": n, "poison": POISONS[n % 3] if n in poison else ""} for n in range(count))
    began = time.monotonic()
    fleet.work("--processes", str(processes))
    fleet.wait_until_empty(seconds=600)
    seconds = time.monotonic() - began
    dead = fleet.ask(read_dead)
    assert sorted(n for n, _ in dead) == sorted(poison)
    assert {reason for _, reason in dead} == {"crashes"}
    history = fleet.history()
    healthy = judge([line for line in history if line.n not in {str(n) for n in poison}])
    deaths = [sum(line.n == str(n) and line.what == "start" for line in history) for n in poison]
    report("F37", healthy, poison=len(poison), most_deaths=max(deaths), seconds=seconds)
    assert not healthy.findings, healthy.story
    assert healthy.most_attempts == 1, "innocents are released, not charged"
    assert max(deaths) <= CRASH_BUDGET + 1, "once beside others, which is no evidence"


async def read_dead(store: Store) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    after = 0
    while page := await store.peek("jobs-dlq", limit=100, after_seq=after):
        found += [(json.loads(each.body)["n"], each.dead.reason if each.dead else "") for each in page]
        after = page[-1].seq
    return found
