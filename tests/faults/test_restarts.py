"""Workers stopped, replaced and killed as a whole: nothing lost, nothing run twice that could come to its end (F04 to F07,
F49)."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import apsw
import pytest

from kit.campaign import SEED, Report, sizes
from kit.checker import Rules
from kit.fleet import Fleet
from kit.history import Tail, What

VARIED = """
VERSION = 1

@app.consumer("jobs", max_retries=3)
async def handle(message: Message[dict]) -> None:
    with history.call(message, version=VERSION):
        await asyncio.sleep(message.body["seconds"])
"""
STEADY = """
@app.consumer("jobs", max_retries=100)
async def handle(message: Message[int]) -> None:
    with history.call(message):
        await asyncio.sleep(0.05)
"""
AFTERWARDS = """
@app.consumer("jobs", max_retries=3)
async def handle(message: Message[int]) -> None:
    with history.call(message):
        pass  # the mail is sent
    if message.attempts == 1:
        history.note(What.KILLED, pid=os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)
"""
GATED = """
@app.consumer("jobs", max_retries=0)
async def handle(message: Message[int]) -> None:
    with history.call(message):
        await asyncio.sleep(60)
"""
GRACE_S = 10.0
LONG_S = 14.0
"""Longer than the grace period: such a call is cut short, and given back."""


@pytest.mark.parametrize("restarts", sizes(2, 100))
def test_rolling_deploys_lose_nothing_and_run_nothing_twice(
    fleet: Fleet, report: Report, is_campaign: bool, restarts: int
) -> None:
    """F06, F49: the new tree works before the old one is told to end; every other one is of another version."""
    chance = random.Random(SEED)
    longs, most_s = (0.005, 1.0) if is_campaign else (0.0, 0.4)
    bodies: list[dict[str, Any]] = []

    def feed() -> None:
        if fleet.metrics().backlog_messages < 100:
            new = range(len(bodies), len(bodies) + 100)
            seconds = [LONG_S if chance.random() < longs else round(chance.uniform(0.02, most_s), 2) for _ in new]
            bodies.extend({"n": n, "seconds": each} for n, each in zip(new, seconds, strict=True))
            fleet.send(bodies[new.start :])

    fleet.send([])
    fleet.write_app(VARIED)
    tree = begin_to_work(fleet, feed)
    ending: list[tuple[subprocess.Popen[bytes], float]] = []
    exits: list[float] = []
    for number in range(restarts):
        fleet.write_app(VARIED.replace("VERSION = 1", f"VERSION = {number % 2 + 2}"))
        later = begin_to_work(fleet, feed)
        fleet.end(tree)
        ending.append((tree, time.monotonic()))
        tree = later
        while ending and (ending[0][0].poll() is not None or len(ending) > 4):
            old, told_at = ending.pop(0)
            assert old.wait(timeout=60) == 0
            exits.append(time.monotonic() - told_at)
    for old, told_at in ending:
        assert old.wait(timeout=60) == 0
        exits.append(time.monotonic() - told_at)
    fleet.wait_until_empty(seconds=120)
    verdict = fleet.judge()
    history = fleet.history()
    cut = {line.n for line in history if line.what is What.CUT}
    versions = {line.words["version"] for line in history if line.what is What.START}
    last_sent = max(line.at for line in history if line.what is What.SENT)
    ends = sorted(line.at for line in history if line.what is What.END and line.at < last_sent)
    dip = max(later - sooner for sooner, later in itertools.pairwise(ends))
    report("F06+F49", verdict, cut=len(cut), exit_s_max=max(exits), dip_s=dip, versions=len(versions))
    assert not verdict.findings, verdict.story
    assert verdict.reruns == 0
    assert cut <= {str(body["n"]) for body in bodies if body["seconds"] == LONG_S}
    assert verdict.most_attempts == 1, "to be given back costs no attempt"
    assert len(versions) > 1
    assert not is_campaign or (max(exits) <= GRACE_S + 2 and dip <= 30)


@pytest.mark.parametrize("times", sizes(1, 20))
def test_a_second_signal_ends_at_once_and_loses_nothing(fleet: Fleet, report: Report, is_campaign: bool, times: int) -> None:
    """F07."""
    fleet.write_app(GATED)
    fleet.send(range(20))
    exits = []
    for _ in range(times):
        tree = begin_to_work(fleet)
        fleet.end(tree)
        fleet.rest(0.6)  # sooner it would count as the same signal
        again = time.monotonic()
        tree.send_signal(signal.SIGTERM)
        assert tree.wait(timeout=60) == 0
        exits.append(time.monotonic() - again)
    verdict = fleet.judge(Rules(max_retries=0, is_drained=False))
    report("F07", verdict, exit_s_max=max(exits))
    assert not verdict.findings, verdict.story
    assert len(fleet.placed("jobs")) == 20
    assert not is_campaign or max(exits) <= 1.0


@pytest.mark.parametrize("times", sizes(2, 200, minutes=30))
def test_a_whole_tree_that_is_killed_opens_clean_and_goes_on(
    fleet: Fleet, report: Report, is_campaign: bool, times: int
) -> None:
    """F04."""
    fleet.write_app(STEADY)
    fleet.send(range(200 * (times + 1)))
    ready = []
    for _ in range(times):
        began = time.monotonic()
        tree = begin_to_work(fleet, None, "--processes", "2", "--concurrency", "10")
        ready.append(time.monotonic() - began)
        fleet.kill_tree(tree)
        if fleet.url.startswith("sqlite"):
            assert apsw.Connection(f"{fleet.folder}/store.db").pragma("integrity_check") == "ok"
    began = time.monotonic()
    fleet.work("--processes", "2", "--concurrency", "40")
    fleet.wait_until_empty(seconds=600)
    verdict = fleet.judge(Rules(max_retries=100))
    report("F04", verdict, ready_s_max=max(ready))
    assert not verdict.findings, verdict.story
    assert not is_campaign or max(ready) <= 3.0


@pytest.mark.parametrize("count", sizes(2, 100))
def test_a_kill_between_a_handler_s_end_and_its_ack_runs_the_message_once_more(fleet: Fleet, report: Report, count: int) -> None:
    """F05."""
    fleet.write_app(AFTERWARDS)
    fleet.send(range(count))
    fleet.work("--concurrency", "1")
    fleet.wait_until_empty(seconds=300)
    verdict = fleet.judge()
    starts = [(line.n, line.id, line.attempt) for line in fleet.history() if line.what is What.START]
    report("F05", verdict)
    assert not verdict.findings, verdict.story
    ids = {n: id for n, id, _ in starts}
    assert sorted(starts) == sorted((str(n), ids[str(n)], attempt) for n in range(count) for attempt in (1, 2))


def begin_to_work(fleet: Fleet, feed: Callable[[], None] | None = None, *options: str) -> subprocess.Popen[bytes]:
    """A tree of which a worker has begun a call; `feed` sees to it that there is something to begin."""
    history = Tail(fleet.folder)
    history.read()
    tree = fleet.work(*(options or ("--concurrency", "20")))

    def has_begun() -> bool:
        if feed is not None:
            feed()
        workers = set(fleet.workers(tree))
        return any(line.what is What.START and line.pid in workers for line in history.read())

    fleet.wait_until(has_begun, pause_s=0.05)
    return tree
