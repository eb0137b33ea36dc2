"""Idle: what a worker costs, with all its processes, when there is nothing to do."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic, sleep

from bench.field import Field
from bench.peers.marks import create_marks
from bench.places import Place, store_in
from bench.program import MeasureError, Program
from bench.scenario import Contestant, Measured, Metric, Options, Scenario, Standings, Verdict
from bench.scenarios.drain import works

SETTLE_SECONDS = 3.0
PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def idle(field: Field, options: Options) -> Scenario:
    seconds = options.scaled(10, 4)
    return Scenario(
        name="idle",
        store=field.place.name,
        title=f"Idle worker, whole process tree, {seconds} s after a pause of {SETTLE_SECONDS:.0f} s",
        metrics=[Metric("cpu", "CPU, %", 2), Metric("pss", "PSS, MiB", 1), Metric("processes", "processes")],
        contestants=[_contestant(field.place, program, seconds) for program in field.everybody()],
        judge=_judge,
        rounds=1,
    )


def _contestant(place: Place, program: Program, seconds: int) -> Contestant:
    way = next(iter(program.known.ways))

    def measure(room: Path) -> Measured:
        marks = room / "handled.marks"
        create_marks(marks, 1)
        with store_in(place, room) as url:
            program.call("fill", url, count=0)
            with program.worker(url, marks, way) as worker:
                sleep(SETTLE_SECONDS)
                worker.check_alive()
                return _observe(worker.processes[0].pid, seconds)

    return Contestant(program.name, program.name, works(program), measure)


def _observe(root: int, seconds: float) -> Measured:
    if not PROC.is_dir():
        raise MeasureError("not measured (needs Linux's /proc)")
    before, started = _ticks(_tree(root)), monotonic()
    sleep(seconds)
    tree = _tree(root)
    used = (_ticks(tree) - before) / TICKS
    pss = sum(_pss_kib(pid) for pid in tree) / 1024
    return Measured({"cpu": 100 * used / (monotonic() - started), "pss": pss, "processes": len(tree)})


def _tree(root: int) -> list[int]:
    """The process and all its descendants."""
    parents = {int(path.name): parent for path in PROC.glob("[0-9]*") if (parent := _parent(path)) is not None}
    tree = [root]
    for pid in tree:
        tree.extend(child for child, parent in parents.items() if parent == pid)
    return tree


def _parent(path: Path) -> int | None:
    try:
        return int(_stat(path)[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _stat(path: Path) -> list[str]:
    """The fields after the command, which is in brackets and may hold anything."""
    return (path / "stat").read_text().rpartition(")")[2].split()


def _ticks(tree: list[int]) -> int:
    stats = [_stat(PROC / str(pid)) for pid in tree]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats)


def _pss_kib(pid: int) -> int:
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _judge(standings: Standings) -> list[Verdict]:
    return [
        Verdict("idle CPU", standings.best("conveyor", "cpu", highest=False), 1, " %", at_least=False),
        Verdict("idle memory (PSS)", standings.best("conveyor", "pss", highest=False), 80, " MiB", at_least=False),
    ]
