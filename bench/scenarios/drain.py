"""Drain: one worker process empties a file that was filled before, with a handler that does nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench.field import Field
from bench.peers.marks import create_marks
from bench.program import Program
from bench.scenario import Contestant, Metric, Metrics, Options, Scenario, Standings, Verdict

TIMEOUT_SECONDS = 120.0
COUNTS = {"conveyor": 30_000, "huey": 4_000, "litequeue": 6_000}
QUICK = 4


@dataclass(frozen=True)
class Way:
    """One way to run a peer's worker."""

    label: str
    settings: str
    workers: int = 1
    handler: str = "message"


WAYS = {
    "conveyor": [
        Way("conveyor", "conveyor work --processes 1, async handler, one call a message, concurrency 100, uvloop"),
        Way("conveyor, batches", "the same, batch handler, max_batch_size=100", handler="batch"),
    ],
    "huey": [
        Way("huey, 1 thread", "one consumer process, 1 thread", workers=1),
        Way("huey, 4 threads", "one consumer process, 4 threads", workers=4),
    ],
    "litequeue": [Way("litequeue", "one process, loop of pop and done")],
}


def drain(field: Field, options: Options) -> Scenario:
    contestants = [
        _contestant(program, way, options.scaled(COUNTS[program.name], COUNTS[program.name] // QUICK))
        for program in field.everybody()
        for way in WAYS[program.name]
    ]
    return Scenario(
        name="drain",
        title="Drain by one worker process, no-op handler, first to last message handled",
        metrics=[Metric("rate", "messages/s"), Metric("total", "spawn to last, s", 2)],
        contestants=contestants,
        judge=_judge,
    )


def _contestant(program: Program, way: Way, count: int) -> Contestant:
    def measure(room: Path) -> Metrics:
        file = room / "queue.db"
        program.call("fill", file, count=count)
        return drain_once(program, room, count, way)

    return Contestant(way.label, program.name, f"{count:,} waiting; {way.settings}; {program.settings}", measure)


def drain_once(program: Program, room: Path, count: int, way: Way) -> Metrics:
    """Start a worker on `room`'s file and time the first `count` messages."""
    marks = room / "handled.marks"
    create_marks(marks, count)
    flush_files(room)
    with program.worker(room / "queue.db", marks, way.workers, way.handler) as worker:
        times = worker.wait_handled(marks, 0, count, TIMEOUT_SECONDS)
        if program.name == "conveyor":
            worker.check_loop("uvloop")
    first, last = min(times), max(times)
    return {"rate": (count - 1) / ((last - first) / 1e9), "total": last / 1e9 - worker.spawned}


def flush_files(room: Path) -> None:
    """What the filling left in the page cache is written now, not while somebody is measured."""
    for path in room.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _judge(standings: Standings) -> list[Verdict]:
    one, batches = "conveyor", "conveyor, batches"
    return [
        Verdict("drain / huey", _ratio(standings, one, "huey"), 8, "x"),
        Verdict("drain / litequeue", _ratio(standings, one, "litequeue"), 4, "x"),
        Verdict("drain by batches / huey", _ratio(standings, batches, "huey"), 12, "x"),
    ]


def _ratio(standings: Standings, label: str, peer: str) -> float | None:
    return standings.ratio(label, peer, "rate")
