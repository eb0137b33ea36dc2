"""Enqueue: acknowledged sends a second from 50 callers at once."""

from __future__ import annotations

from pathlib import Path

from bench.field import Field
from bench.program import Program, check_loop
from bench.scenario import Contestant, Metric, Metrics, Options, Scenario, Standings, Verdict

CALLERS = 50
GATES = {"huey": 6.0, "litequeue": 3.0}
GOAL = 1.5


def enqueue(field: Field, options: Options) -> Scenario:
    seconds = options.scaled(3, 1)
    return Scenario(
        name="enqueue",
        title=f"Enqueue from {CALLERS} callers, one message a call, {seconds} s",
        metrics=[Metric("rate", "sends/s")],
        contestants=[_contestant(program, seconds) for program in field.everybody()],
        judge=_judge,
    )


def _contestant(program: Program, seconds: int) -> Contestant:
    def measure(room: Path) -> Metrics:
        answer = program.call("enqueue", room / "queue.db", callers=CALLERS, seconds=seconds)
        if program.name == "conveyor":
            check_loop(answer["loop"], "uvloop")
        return {"rate": answer["rate"]}

    callers = "coroutines on uvloop" if program.name == "conveyor" else "threads"
    return Contestant(program.name, program.name, f"{CALLERS} {callers}; {program.settings}", measure)


def _judge(standings: Standings) -> list[Verdict]:
    return [
        Verdict(f"enqueue / {peer}", standings.ratio("conveyor", peer, "rate"), gate, "x", goal=gate * GOAL)
        for peer, gate in GATES.items()
    ]
