"""Held: steady work, and then somebody leaves a transaction open. PostgreSQL may remove nothing that died since."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from subprocess import Popen, TimeoutExpired
from time import monotonic, sleep
from typing import Any

from bench.field import Field
from bench.peers.marks import Watch, create_marks
from bench.places import Place, store_in
from bench.program import MeasureError, Program
from bench.scenario import Contestant, Measured, Metric, Options, Scenario, Standings, Verdict
from bench.scenarios.check import check_books
from bench.scenarios.drain import works

WARM_SECONDS = 8
AHEAD = 10_000
BATCH = 1_000
RATE_MOST = 40_000  # slots for so many a second are made; who is faster is not counted to the end
SPARE_SECONDS = 20
TIMEOUT_SECONDS = 60.0
FREE = "conveyor, nothing held"


class Stretches:
    """How long it goes on: seconds before, while and after the transaction is open."""

    def __init__(self, options: Options) -> None:
        self.held = options.scaled(options.held_seconds, min(options.held_seconds, 6))
        self.before = min(60, max(self.held // 2, 4))
        self.after = min(75, max(self.held * 2 // 3, 4))
        self.tail = max(3, self.after // 5)
        self.all = WARM_SECONDS + self.before + self.held + self.after


def held(field: Field, options: Options) -> Scenario:
    stretches = Stretches(options)
    programs = field.named("conveyor", "pgqueuer") if field.place.name == "postgres" else ()

    def judge(standings: Standings) -> list[Verdict]:
        during, after = (standings.best("conveyor", metric) for metric in ("during", "after"))
        last = standings.best("conveyor", "last")
        verdicts = [
            Verdict(f"with a snapshot held {stretches.held} s / without", during, 50, " %", goal=80),
            Verdict(f"its last {stretches.tail} s / without", last, 50, " %", goal=80),
            Verdict(f"within {stretches.after} s of its end / without", after, 95, " %"),
        ]
        for metric, bar in (("during", 50), ("last", 50), ("after", 95)):
            rate, free = (standings.best(each, f"{metric}_rate") for each in ("conveyor", FREE))
            if rate is not None and free is not None:
                what = f"{metric}: its rate / that of the same seconds of a run in which nothing is held"
                verdicts.append(Verdict(what, 100 * rate / free, bar, " %"))
        return verdicts

    return Scenario(
        name="held",
        store=field.place.name,
        title=f"Steady work, {stretches.before} s without, {stretches.held} s with, {stretches.after} s after "
        f"a transaction held open; one worker process, one producer; the last {stretches.tail} s of the latter two",
        metrics=[
            Metric("before", "messages/s without"),
            Metric("during", "with, %", 1),
            Metric("last", "its last, %", 1),
            Metric("after", "after, %", 1),
            Metric("during_rate", "with, rate"),
            Metric("last_rate", "its last, rate"),
            Metric("after_rate", "after, rate"),
        ],
        contestants=[
            _contestant(field.place, program, stretches, is_held=is_held)
            for program in programs
            for is_held in ((True, False) if program.name == "conveyor" else (True,))
        ],
        judge=judge,
        rounds=1,
    )


def _contestant(place: Place, program: Program, stretches: Stretches, *, is_held: bool) -> Contestant:
    """Not held: a run of the same length, since a store that has just begun has neither checkpoints nor vacuum behind
    it, and its first minute is faster than what follows."""
    way = next(iter(program.known.ways))

    def measure(room: Path) -> Measured:
        with store_in(place, room) as url:
            return _steady(place if is_held else None, program, url, room, way, stretches)

    name = program.name if is_held else FREE
    return Contestant(name, name, works(program), measure)


def _steady(place: Place | None, program: Program, url: str, room: Path, way: str, stretches: Stretches) -> Measured:
    """A producer that keeps 10,000 messages waiting, beside a worker; meanwhile a transaction comes and goes in the
    place, if there is one."""
    marks, output = room / "handled.marks", room / "pump.json"
    create_marks(marks, RATE_MOST * (stretches.all + SPARE_SECONDS))
    program.call("fill", url, count=0)
    told = {"marks": marks, "batch": BATCH, "ahead": AHEAD, "seconds": stretches.all + 2}
    with program.worker(url, marks, way) as worker:
        with program.begin("pump", url, output, **told) as pump:
            _wait_begun(worker.watch)
            began = monotonic()
            _sleep_until(began + WARM_SECONDS + stretches.before)
            snapshot = None if place is None else place.hold_snapshot(url)
            _sleep_until(began + WARM_SECONDS + stretches.before + stretches.held)
            if snapshot is not None:
                snapshot.end()
            sent = int(answered(pump, output, stretches.after + SPARE_SECONDS)["sent"])
        worker.wait_calls(sent, TIMEOUT_SECONDS)
    worker.check_loop(program.known.loop)
    check_books(program, url, sent, worker.watch)
    return _judged(_per_second(worker.watch, began + WARM_SECONDS), stretches)


def answered(pump: Popen[bytes], output: Path, timeout: float) -> dict[str, Any]:
    """What a process that sends says at its end."""
    try:
        pump.wait(timeout)
    except TimeoutExpired as error:
        raise MeasureError("the producer did not come to an end") from error
    said = output.read_text(errors="replace").strip().splitlines() or ["(it said nothing)"]
    if pump.returncode:
        raise MeasureError(f"the producer: {said[-1]}")
    answer: dict[str, Any] = json.loads(said[-1])
    return answer


def _wait_begun(watch: Watch) -> None:
    deadline = monotonic() + TIMEOUT_SECONDS
    while not watch.calls():
        if monotonic() > deadline:
            raise MeasureError("nothing was handled")
        sleep(0.05)


def _sleep_until(moment: float) -> None:
    sleep(max(0.0, moment - monotonic()))


def _per_second(watch: Watch, start: float) -> list[int]:
    """What was handled in each second since `start`."""
    counts: dict[int, int] = {}
    for moment in watch.moments():
        if moment >= start * 1e9:
            second = int(moment / 1e9 - start)
            counts[second] = counts.get(second, 0) + 1
    return [counts.get(second, 0) for second in range(max(counts) + 1)]


def _judged(rates: Sequence[int], stretches: Stretches) -> Measured:
    start, end = stretches.before, stretches.before + stretches.held
    stop = end + stretches.after
    before = mean(rates[:start])
    then = {
        "during": mean(rates[start:end]),
        "last": mean(rates[end - stretches.tail : end]),
        "after": mean(rates[stop - stretches.tail : stop]),
    }
    shares = {name: 100 * rate / before for name, rate in then.items()}
    seen = {f"{name}_rate": rate for name, rate in then.items()}
    return Measured({"before": before, **shares, **seen, "start": start, "end": end}, {"rate": rates[:stop]})
