"""Backlog: messages are drained as fast with a million behind them as with few, though nobody analyzed the tables.

(Nobody but pgqueuer: `pgq autovac` asks for it, table by table.)
"""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

from bench.field import Field
from bench.places import Place, store_in
from bench.program import MeasureError, Program
from bench.scenario import Contestant, Measured, Metric, Options, Scenario, Standings, Verdict
from bench.scenarios.drain import drain_once, works

SIZES = (50_000, 250_000, 1_000_000)
QUICK = (10_000, 100_000)
DRAINED = {"conveyor": 40_000, "pgqueuer": 15_000}
GATE = 85


def backlog(field: Field, options: Options) -> Scenario:
    sizes = QUICK if options.quick else SIZES
    filled: dict[str, str] = {}
    contestants = [
        _contestant(field.place, program, options, size, filled) for program in field.named(*DRAINED) for size in sizes
    ]

    def judge(standings: Standings) -> list[Verdict]:
        ratio = standings.ratio(_label("conveyor", sizes[-1]), _label("conveyor", sizes[0]), "rate")
        share = None if ratio is None else 100 * ratio.value
        return [Verdict(f"drain with {sizes[-1]:,} waiting / {sizes[0]:,}", share, GATE, " %")]

    return Scenario(
        name="backlog",
        store=field.place.name,
        title="Drain by how many are waiting; the tables are not analyzed",
        metrics=[Metric("rate", "messages/s"), Metric("total", "spawn to last, s", 2)],
        contestants=contestants,
        judge=judge,
    )


def _label(peer: str, waiting: int) -> str:
    return f"{peer}, {waiting:,} waiting"


def _contestant(place: Place, program: Program, options: Options, waiting: int, filled: dict[str, str]) -> Contestant:
    way, label = next(iter(program.known.ways)), _label(program.name, waiting)
    drained = min(DRAINED[program.name], waiting * 4 // 5)

    def measure(room: Path) -> Measured:
        with place.without_statistics():
            if label not in filled:
                filled[label] = _fill(place, program, Path(mkdtemp(dir=options.directory)), waiting)
            with store_in(place, room, like=filled[label]) as url:
                place.settle(url, analyze=False)
                measured = drain_once(program, url, room, way, filled=waiting, drained=drained)
                if program.name == "conveyor" and place.has_statistics(url):
                    raise MeasureError("a table was analyzed")
        return Measured({**measured.values, "waiting": waiting})

    return Contestant(label, program.name, f"{drained:,} drained; {works(program)}", measure)


def _fill(place: Place, program: Program, room: Path, waiting: int) -> str:
    """Filled once and copied for each round: a million sends take longer than all the rounds."""
    url = place.fresh(room)
    program.call("fill", url, count=waiting)
    return url
