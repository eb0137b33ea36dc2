"""Backlog: conveyor drains 10,000 messages as fast with a million behind them as with none."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.field import Field
from bench.program import Program
from bench.scenario import Contestant, Metric, Metrics, Options, Scenario, Standings, Verdict
from bench.scenarios.drain import WAYS, drain_once

DRAINED = 10_000
SMALL = 10_000
LARGE = 1_000_000
QUICK = 100_000


def backlog(field: Field, options: Options) -> Scenario:
    large = options.scaled(LARGE, QUICK)
    program = field.conveyor
    contestants = [] if program is None else [_contestant(program, options, size) for size in (SMALL, large)]

    def judge(standings: Standings) -> list[Verdict]:
        ratio = standings.ratio(_label(large), _label(SMALL), "rate")
        share = None if ratio is None else 100 * ratio
        return [Verdict(f"drain with {large:,} waiting / {SMALL:,}", share, 85, " %")]

    return Scenario(
        name="backlog",
        title=f"Drain of {DRAINED:,} messages by how many are waiting",
        metrics=[Metric("rate", "messages/s"), Metric("total", "spawn to last, s", 2)],
        contestants=contestants,
        judge=judge,
    )


def _label(waiting: int) -> str:
    return f"conveyor, {waiting:,} waiting"


def _contestant(program: Program, options: Options, waiting: int) -> Contestant:
    filled = options.directory / f"backlog-{waiting}"
    way = WAYS["conveyor"][0]

    def measure(room: Path) -> Metrics:
        if not filled.exists():
            _fill(program, filled, waiting)
        shutil.copytree(filled, room, dirs_exist_ok=True)
        return drain_once(program, room, DRAINED, way)

    return Contestant(_label(waiting), program.name, f"{way.settings}; {program.settings}", measure)


def _fill(program: Program, filled: Path, waiting: int) -> None:
    """Filled once and copied for each round: a million sends take longer than all the rounds."""
    filled.mkdir()
    program.call("fill", filled / "queue.db", count=waiting)
