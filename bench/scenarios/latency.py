"""Latency: from just before the enqueue call to the start of the handler in another process, at 50 a second."""

from __future__ import annotations

from pathlib import Path

from bench.field import Field
from bench.peers.marks import Watch, create_marks
from bench.peers.pace import WARM_SLOTS
from bench.places import Place, store_in
from bench.program import MeasureError, Program
from bench.scenario import Bar, Contestant, Measured, Metric, Options, Scenario, Standings, Verdict
from bench.scenarios.check import check_books
from bench.scenarios.drain import works

RATE = 50
TIMEOUT_SECONDS = 15.0
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
CURVE = 100
GATES = {
    "sqlite": {"p50": {"litequeue": Bar("latency p50", 0.5)}, "p99": {"litequeue": Bar("latency p99", 1.5)}},
    "postgres": {"p50": {"pgqueuer": Bar("latency p50", 0.5)}, "p99": {"pgqueuer": Bar("latency p99", 1)}},
}


def latency(field: Field, options: Options) -> Scenario:
    seconds = options.scaled(10, 3)

    def judge(standings: Standings) -> list[Verdict]:
        gates = GATES[field.place.name]
        return [
            verdict
            for metric, bars in gates.items()
            for verdict in standings.ratios("conveyor", bars, metric, highest=False)
        ]

    return Scenario(
        name="latency",
        store=field.place.name,
        title=f"Latency between two processes at {RATE}/s, {RATE * seconds} messages a round after a warm-up",
        metrics=[Metric(name, f"{name}, ms", 2) for name in PERCENTILES],
        contestants=[_contestant(field.place, program, seconds) for program in field.everybody()],
        judge=judge,
    )


def _contestant(place: Place, program: Program, seconds: int) -> Contestant:
    way = next(iter(program.known.ways))

    def measure(room: Path) -> Measured:
        with store_in(place, room) as url:
            return _percentiles(_latencies(program, url, room, way, seconds))

    return Contestant(program.name, program.name, works(program), measure)


def _latencies(program: Program, url: str, room: Path, way: str, seconds: int) -> list[float]:
    """In milliseconds, sorted."""
    sent, handled = room / "sent.marks", room / "handled.marks"
    for marks in (sent, handled):
        create_marks(marks, WARM_SLOTS + RATE * seconds)
    program.call("fill", url, count=0)
    with program.worker(url, handled, way) as worker:
        worker.check_alive()
        answer = program.call("trickle", url, sent=sent, marks=handled, rate=RATE, seconds=seconds)
        worker.wait_calls(answer["sent"], TIMEOUT_SECONDS)
    worker.check_loop(program.known.loop)
    check_books(program, url, answer["sent"], worker.watch)
    measured = slice(answer["first"], answer["first"] + answer["count"])
    starts, ends = Watch(sent).moments()[measured], worker.watch.moments()[measured]
    return sorted((end - start) / 1e6 for start, end in zip(starts, ends, strict=True))


def _percentiles(latencies: list[float]) -> Measured:
    if not latencies:
        raise MeasureError("no message was measured")
    last = len(latencies) - 1
    curve = [latencies[round(step / CURVE * last)] for step in range(CURVE + 1)]
    return Measured({name: latencies[round(share * last)] for name, share in PERCENTILES.items()}, {"percent": curve})
