"""Workers killed with SIGKILL under load: nothing is lost, nothing runs twice at once, limits and order hold (F03, F45,
F46). CI has all three queues at once; a campaign has each for itself."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from kit.campaign import KILLS, SEED, Report
from kit.checker import Rules, Verdict, judge
from kit.fleet import Fleet
from kit.history import Line, Tail, What

HANDLER: Final = """
@app.consumer("{queue}", {options})
async def {queue}(message: Message[dict]) -> None:
    with history.call(message):
        await asyncio.sleep({handler_s})
        if {fails}:
            raise ValueError("a head that fails for good must let its key go on")
"""
PROCESSES: Final = 4
LIMIT: Final = 10
KEYS: Final = 40
POISON: Final = 97
"""One in so many messages of an ordered queue fails for good."""


@dataclass(frozen=True)
class Load:
    """A queue, what is sent to it, and what must hold of it."""

    row: str
    queue: str
    options: str
    rules: Rules
    handler_s: float
    per_kill: int
    is_ordered: bool = False

    def source(self) -> str:
        fails = f"int(message.body['n'].rpartition('-')[2]) % {POISON} == 0" if self.is_ordered else "False"
        return HANDLER.format(queue=self.queue, options=self.options, handler_s=self.handler_s, fails=fails)

    def bodies(self, first: int, count: int) -> list[dict[str, Any]]:
        numbers = range(first, first + count)
        if self.is_ordered:
            return [{"n": f"{self.queue}-{n}", "key": f"k{n % KEYS}"} for n in numbers]
        return [{"n": f"{self.queue}-{n}"} for n in numbers]


PLAIN = Load("F03", "plain", "max_retries=3", Rules(), 0.5, 100)
LIMITED = Load("F45", "limited", f"max_batch_size=1, max_concurrency={LIMIT}", Rules(max_concurrency=LIMIT), 0.1, 70)
ORDERED = Load(
    "F46", "ordered", "max_retries=1, ordered=True", Rules(max_retries=1, ordered=True), 0.1, 150, is_ordered=True
)


@pytest.mark.parametrize(
    ("loads", "kills"),
    [
        pytest.param([PLAIN, LIMITED, ORDERED], 3, id="ci"),
        *(
            pytest.param([load], max(3, KILLS), id=f"campaign-{load.row}", marks=[pytest.mark.campaign, pytest.mark.timeout(3_600)])
            for load in (PLAIN, LIMITED, ORDERED)
        ),
    ],
)
def test_kills_under_load_lose_no_message(
    fleet: Fleet, report: Report, is_campaign: bool, loads: list[Load], kills: int
) -> None:
    fleet.write_app("".join(load.source() for load in loads))
    counts = {load.queue: 0 for load in loads}

    def send(load: Load, count: int) -> None:
        fleet.send(load.bodies(counts[load.queue], count), queue=load.queue)
        counts[load.queue] += count

    def feed() -> None:
        """Whenever little is left, enough for the next few kills."""
        for load in loads:
            if not counts[load.queue] or fleet.metrics(load.queue).backlog_messages < load.per_kill:
                send(load, 5 * load.per_kill)

    began = time.monotonic()
    kill_workers(fleet, kills, feed)
    for load in loads:
        send(load, max(load.per_kill, load.per_kill * kills - counts[load.queue]))  # so that a limit is reached again
    for load in loads:
        fleet.wait_until_empty(load.queue, seconds=900)
    seconds, history = time.monotonic() - began, fleet.history()
    for load in loads:
        own = [line for line in history if line.n == "-" or line.n.startswith(load.queue)]
        dead = fleet.placed(f"{load.queue}-dlq")
        verdict = judge(own, load.rules, left=fleet.placed(load.queue), dead=dead)
        failing = {f"ordered-{n}" for n in range(0, counts[load.queue], POISON)} if load.is_ordered else set()
        blamed = {n for n, _ in dead} - failing
        report(load.row, verdict, seconds=seconds, peak=verdict.peak, dead=len(dead), blamed=len(blamed))
        assert not verdict.findings, verdict.story
        assert verdict.kills == kills
        assert failing <= {n for n, _ in dead}
        assert len(blamed) <= kills // 50, "more than those few that were alone in three dying workers, one after another"
        assert not is_campaign or load is not PLAIN or verdict.redelivery_s(0.99) <= 2.0
        if load is LIMITED:
            judge_slots(own, verdict)


def judge_slots(history: list[Line], verdict: Verdict) -> None:
    """The limit was reached, and is reached again after the last kill."""
    last = max(line.at for line in history if line.what is What.KILLED)
    assert verdict.peak == LIMIT
    full_again = next((at for at, running in running_calls(history) if at > last and running == LIMIT), None)
    assert full_again is not None, "slots have leaked"
    assert full_again - last <= 60.0


def kill_workers(fleet: Fleet, kills: int, feed: Callable[[], None]) -> None:
    """Four workers; kill one of them as soon as all work, and some time has passed: so there are three to take over."""
    chance = random.Random(SEED)
    feed()
    tree = fleet.work("--processes", str(PROCESSES), "--concurrency", "20")
    killed = 0
    working: set[int] = set()
    history = Tail(fleet.folder)
    while killed < kills:
        fleet.rest(chance.uniform(0.1, 0.8))
        working |= {line.pid for line in history.read() if line.what is What.START}
        victims = sorted(working.intersection(fleet.workers(tree)))
        if len(victims) == PROCESSES:
            fleet.kill(pid := chance.choice(victims))
            working.discard(pid)  # in a long campaign another worker gets the same number
            killed += 1
        feed()


def running_calls(history: list[Line]) -> list[tuple[float, int]]:
    """How many calls were running after each start; a killed process's calls end with it."""
    found: list[tuple[float, int]] = []
    running: dict[tuple[str, int, int], int] = {}
    for line in sorted(history, key=lambda line: line.at):
        if line.what is What.START:
            running[line.id, line.attempt, line.pid] = line.pid
            found.append((line.at, len(running)))
        elif line.what is What.KILLED:
            running = {call: pid for call, pid in running.items() if pid != line.pid}
        else:
            running.pop((line.id, line.attempt, line.pid), None)
    return found
