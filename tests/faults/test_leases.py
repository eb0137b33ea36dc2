"""Workers that are stopped, blocked or slow while they hold messages: whoever lost them is fenced out, and whoever lives
keeps them (F34, F35, F48)."""

from __future__ import annotations

import os
import signal
import time

import pytest

from conveyor.store.records import OWNER_LEASE_MS
from kit.campaign import Report, sizes
from kit.checker import Rules
from kit.fleet import Fleet
from kit.history import What

LEASE_S = OWNER_LEASE_MS / 1_000
STEADY = """
@app.consumer("jobs", max_retries=100)
async def handle(message: Message[int]) -> None:
    with history.call(message):
        await asyncio.sleep(0.3)
"""
BLOCKING = """
@app.consumer("jobs", max_retries=0)
async def handle(message: Message[dict]) -> None:
    with history.call(message):
        until = time.monotonic() + {seconds}
        match message.body["how"]:
            case "sleep":
                time.sleep({seconds})
            case "python":
                while time.monotonic() < until:
                    sum(range(1_000))
            case "library":  # one call that holds the interpreter for about a second
                while time.monotonic() < until:
                    10 ** 600_000 % 7
"""
SLOW = """
@app.consumer("jobs", max_retries=0)
async def handle(message: Message[int]) -> None:
    with history.call(message):
        await asyncio.sleep(1)
"""


@pytest.mark.parametrize("stops", sizes(2, 100))
def test_a_stopped_worker_s_messages_run_elsewhere_and_what_it_says_later_does_not_count(
    fleet: Fleet, report: Report, stops: int
) -> None:
    """F34, while its supervisor lives: it sees the stop, and ends the worker."""
    fleet.write_app(STEADY)
    fleet.send(range(60 * stops + 100))
    tree = fleet.work("--processes", "2", "--concurrency", "10")
    stopped: list[int] = []
    for _ in range(stops):
        seen = len(fleet.history())
        fleet.wait_until(lambda: set(fleet.workers(tree)) & _callers(fleet, seen) - set(stopped))
        stopped.append(next(iter(set(fleet.workers(tree)) & _callers(fleet, seen) - set(stopped))))
        fleet.freeze(stopped[-1])
        fleet.wait_until(lambda: stopped[-1] not in fleet.workers(tree))
    fleet.wait_until_empty(seconds=120)
    verdict = fleet.judge(Rules(max_retries=100))
    report("F34", verdict, stops=stops)
    assert not verdict.findings, verdict.story
    assert fleet.placed("jobs-dlq") == []


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_a_tree_that_slept_for_two_leases_finds_its_messages_gone(fleet: Fleet, report: Report) -> None:
    """F34, where the supervisor is stopped, too: as a host that hung."""
    fleet.write_app(STEADY.replace("0.3", "2"))
    fleet.send(range(20))
    sleeper = fleet.work("--concurrency", "10")
    fleet.wait_until(lambda: len([line for line in fleet.history() if line.what is What.START]) == 10)
    for pid in [*fleet.workers(sleeper), sleeper.pid]:
        fleet.freeze(pid)
    began = time.monotonic()
    fleet.work("--concurrency", "30")
    fleet.wait_until_empty(seconds=60)
    last_run = max(line.at for line in fleet.history() if line.what is What.START) - began
    fleet.rest(2 * LEASE_S - (time.monotonic() - began))
    for pid in [*fleet.workers(sleeper), sleeper.pid]:
        os.kill(pid, signal.SIGCONT)
    fleet.wait_until(lambda: "conveyor.lease.lost" in fleet.log() or sleeper.poll() is not None or not fleet.workers(sleeper))
    fleet.rest(3.0)  # for what it might still say
    verdict = fleet.judge(Rules(max_retries=100))
    report("F34-host", verdict, last_run_s=last_run)
    assert not verdict.findings, verdict.story
    assert {line.attempt for line in fleet.history() if line.what is What.END} == {1, 2}
    assert last_run <= 17.0


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_a_handler_that_blocks_everything_for_three_leases_keeps_its_messages(fleet: Fleet, report: Report) -> None:
    """F35."""
    fleet.write_app(BLOCKING.format(seconds=3 * LEASE_S))
    ways = ["sleep", "python", "library"]
    fleet.send({"n": n, "how": how} for n, how in enumerate(ways))
    fleet.work("--processes", "4", "--concurrency", "1")
    fleet.wait_until_empty(seconds=240)
    verdict = fleet.judge(Rules(max_retries=0))
    report("F35", verdict)
    assert not verdict.findings, verdict.story
    assert (verdict.calls, verdict.reruns) == (3, 0)


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_messages_that_wait_in_a_worker_for_longer_than_a_lease_run_once(fleet: Fleet, report: Report) -> None:
    """F48: one slot, so that what was fetched ahead waits; another tree stands by to take what is let go."""
    fleet.write_app(SLOW)
    fleet.send(range(int(2 * LEASE_S)))
    fleet.work("--concurrency", "1")
    fleet.wait_until_empty(seconds=120)
    verdict = fleet.judge(Rules(max_retries=0))
    report("F48", verdict)
    assert not verdict.findings, verdict.story
    assert verdict.calls == verdict.confirmed


def _callers(fleet: Fleet, seen: int) -> set[int]:
    """Processes that have begun a call since then."""
    return {line.pid for line in fleet.history()[seen:] if line.what is What.START}
