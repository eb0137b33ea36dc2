"""Drain: one worker process, or two, empty a store that was filled before, with a handler that does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.field import Field
from bench.peers.marks import create_marks
from bench.places import Place, store_in
from bench.program import Program
from bench.scenario import Bar, Contestant, Measured, Metric, Options, Scenario, Standings, Verdict
from bench.scenarios.check import check_books

TIMEOUT_SECONDS = 120.0
QUICK = 4
EDGE = 5  # of two processes the first and the last fifth do not count: one of them may be alone there
WORKS = {
    "conveyor": "conveyor work --processes {0}, async handler, concurrency 100, uvloop",
    "huey": "consumer process",
    "litequeue": "loop of pop and done",
}
GATES: dict[str, Mapping[str, Bar]] = {
    "sqlite": {"huey": Bar("drain", 8, 12), "litequeue": Bar("drain", 4, 6)},
    "postgres": {"pgqueuer": Bar("drain", 2, 3), "procrastinate": Bar("drain", 40)},
}
BATCH_GATES: dict[str, Mapping[str, Bar]] = {"sqlite": {"huey": Bar("drain by batches", 12, 18)}, "postgres": {}}
PAIR_GATES: dict[str, Mapping[str, Bar]] = {"sqlite": {}, "postgres": {"pgqueuer": Bar("drain by two", 1.3)}}


def drain(field: Field, options: Options) -> Scenario:
    def judge(standings: Standings) -> list[Verdict]:
        store = field.place.name
        verdicts = standings.ratios("conveyor", GATES[store], "rate")
        return verdicts + standings.ratios("conveyor, batch handler", BATCH_GATES[store], "rate")

    return Scenario(
        name="drain",
        store=field.place.name,
        title="Drain by one worker process, no-op handler, first to last message handled",
        metrics=[Metric("rate", "messages/s"), Metric("total", "spawn to last, s", 2)],
        contestants=_contestants(field, options, processes=1),
        judge=judge,
    )


def pair(field: Field, options: Options) -> Scenario:
    return Scenario(
        name="pair",
        store=field.place.name,
        title="Drain by two worker processes, no-op handler, the middle three fifths of the messages",
        metrics=[Metric("rate", "messages/s"), Metric("total", "spawn to last, s", 2)],
        contestants=_contestants(field, options, processes=2),
        judge=lambda standings: standings.ratios("conveyor", PAIR_GATES[field.place.name], "rate"),
    )


def _contestants(field: Field, options: Options, *, processes: int) -> list[Contestant]:
    """Every way of everybody; two processes with conveyor's batch handler are nobody's question."""
    contestants = []
    for program in field.everybody():
        count = program.known.drained * processes
        for way, settings in program.known.ways.items():
            if processes == 1 or "batch" not in settings:
                scaled = options.scaled(count, count // QUICK)
                contestants.append(_contestant(field.place, program, way, scaled, processes))
    return contestants


def _contestant(place: Place, program: Program, way: str, count: int, processes: int) -> Contestant:
    def measure(room: Path) -> Measured:
        with store_in(place, room) as url:
            program.call("fill", url, count=count)
            place.settle(url, analyze=True)
            return drain_once(program, url, room, way, filled=count, drained=count, processes=processes)

    return Contestant(way, program.name, f"{count:,} waiting; {works(program, processes)}", measure)


def works(program: Program, processes: int = 1) -> str:
    work = WORKS.get(program.name, f"on {program.known.loop}" if program.known.loop else "").format(processes)
    return "; ".join(filter(None, [work, program.known.settings]))


def drain_once(
    program: Program, url: str, room: Path, way: str, *, filled: int, drained: int, processes: int = 1
) -> Measured:
    """Start workers on what was filled and time the first messages that they handle."""
    marks = room / "handled.marks"
    create_marks(marks, filled)
    with program.worker(url, marks, way, processes) as worker:
        worker.wait_calls(drained, TIMEOUT_SECONDS)
        times = worker.watch.seen()[:drained]
    worker.check_loop(program.known.loop)
    check_books(program, url, filled, worker.watch)
    edge = len(times) // EDGE if processes > 1 else 0
    counted = times[edge : len(times) - edge]
    rate = (len(counted) - 1) / ((counted[-1] - counted[0]) / 1e9)
    return Measured({"rate": rate, "total": times[-1] / 1e9 - worker.spawned})
