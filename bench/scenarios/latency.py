"""Latency: from just before the enqueue call to the start of the handler in another process, at 50 a second."""

from __future__ import annotations

from pathlib import Path

from bench.field import Field
from bench.peers.contract import WARM_SLOTS
from bench.peers.marks import create_marks, read_marks
from bench.program import MeasureError, Program
from bench.scenario import Contestant, Metric, Metrics, Options, Scenario, Standings, Verdict

RATE = 50
TIMEOUT_SECONDS = 15.0
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
SETTINGS = {
    "conveyor": "conveyor work --processes 1, uvloop, woken by the sender",
    "huey": "1 thread, its default poll (0.1 s, growing while idle)",
    "litequeue": "a loop that sleeps 10 ms when there is nothing",
}


def latency(field: Field, options: Options) -> Scenario:
    seconds = options.scaled(6, 3)
    return Scenario(
        name="latency",
        title=f"Latency between two processes at {RATE}/s, {RATE * seconds} messages a round after a warm-up",
        metrics=[Metric(name, f"{name}, ms", 2) for name in PERCENTILES],
        contestants=[_contestant(program, seconds) for program in field.everybody()],
        judge=_judge,
    )


def _contestant(program: Program, seconds: int) -> Contestant:
    def measure(room: Path) -> Metrics:
        return _percentiles(_latencies(program, room, seconds))

    return Contestant(program.name, program.name, f"{SETTINGS[program.name]}; {program.settings}", measure)


def _latencies(program: Program, room: Path, seconds: int) -> list[float]:
    """In milliseconds, sorted."""
    file, sent, handled = room / "queue.db", room / "sent.marks", room / "handled.marks"
    for marks in (sent, handled):
        create_marks(marks, WARM_SLOTS + RATE * seconds)
    program.call("fill", file, count=0)
    with program.worker(file, handled) as worker:
        worker.check_alive()
        answer = program.call("trickle", file, sent=sent, marks=handled, rate=RATE, seconds=seconds)
        first, count = answer["first"], answer["count"]
        ends = worker.wait_handled(handled, first, count, TIMEOUT_SECONDS)
        if program.name == "conveyor":
            worker.check_loop("uvloop")
    starts = read_marks(sent)[first : first + count]
    return sorted((end - start) / 1e6 for start, end in zip(starts, ends, strict=True))


def _percentiles(latencies: list[float]) -> Metrics:
    if not latencies:
        raise MeasureError("no message was measured")
    last = len(latencies) - 1
    return {name: latencies[round(share * last)] for name, share in PERCENTILES.items()}


def _judge(standings: Standings) -> list[Verdict]:
    def ratio(metric: str) -> float | None:
        return standings.ratio("conveyor", "litequeue", metric, highest=False)

    return [
        Verdict("latency p50 / litequeue", ratio("p50"), 0.5, "x", at_least=False),
        Verdict("latency p99 / litequeue", ratio("p99"), 1.5, "x", at_least=False),
    ]
