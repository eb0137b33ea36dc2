"""Age: one store lives through millions of messages of mixed work, ebb and flow, and is looked at forty times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from subprocess import Popen
from time import monotonic, sleep
from typing import Any, ClassVar

from bench.age.app import rejected_beside
from bench.age.fates import HUNDRED
from bench.age.look import HOT, PASSING, Look, look
from bench.field import Field
from bench.peers.marks import create_marks
from bench.places import Place, store_in
from bench.postgres import ask
from bench.program import ConveyorProgram, MeasureError, Program, Worker
from bench.scenario import Contestant, Measured, Metric, Options, Scenario, Standings, Verdict
from bench.scenarios.drain import works
from bench.scenarios.held import answered

LOOKS = 40
SETTLED_SECONDS = 600
"""PostgreSQL's vacuum looks once a minute. Before it has come some times, tables do not have their size: no verdict."""
QUICK = 8_000
PATIENCE_SECONDS = 180.0
EVERY_SECONDS = 0.05
EARLY, LATE = (1, 5), (33, 37)  # from the look at 5 % to that at 15 %, and from 85 % to 95 %: as many wait in both
MIB = 1024 * 1024


@dataclass(frozen=True)
class _Day(ConveyorProgram):
    """conveyor with the application of the day; its other process sends."""

    application: ClassVar[str] = "bench.age.app:app"
    url: str = ""

    def _script(self, verb: str) -> list[str]:
        return [self.python, "-m", f"bench.age.{verb}"]

    def _environment(self, **extra: str) -> dict[str, str]:
        return super()._environment(**{"CONVEYOR_URL": self.url, **extra})


@dataclass(frozen=True)
class Sample:
    """The store at one moment, and how many messages had been handled by then."""

    moment: float
    handled: int
    look: Look


def age(field: Field, options: Options) -> Scenario:
    messages = options.scaled(options.messages, min(options.messages, QUICK))
    programs = field.named("conveyor") if field.place.name == "postgres" else ()

    def judge(standings: Standings) -> list[Verdict]:
        kept, untrue, walked, grown = (
            standings.best("conveyor", name) for name in ("kept", "untrue", "walked", "grown")
        )
        if (standings.best("conveyor", "seconds") or 0) < SETTLED_SECONDS:
            walked = grown = None
        return [
            Verdict(f"of {messages:,} messages the last tenth's rate / the first's", kept, 90, " %"),
            Verdict("blocks looked at for a message, last / first", walked, 120, " %", at_least=False),
            Verdict("size of the hot tables, last / first", grown, 150, " %", at_least=False),
            Verdict("messages and bytes by which a kept counter was wrong", untrue, 0, "", at_least=False),
        ]

    return Scenario(
        name="age",
        store=field.place.name,
        title=f"{messages:,} messages of mixed work on one store; one worker process, one sender; "
        "first: from 5 % to 15 % of them, last: from 85 % to 95 %",
        metrics=[
            Metric("first", "messages/s"),
            Metric("last", "last"),
            Metric("kept", "%", 1),
            Metric("send_first", "send, ms", 2),
            Metric("send_last", "last", 2),
            Metric("blocks_first", "blocks", 1),
            Metric("blocks_last", "last", 1),
            Metric("size_first", "hot, MiB"),
            Metric("size_last", "last"),
            Metric("grown", "%", 1),
            Metric("seconds", "s"),
        ],
        contestants=[_contestant(field.place, program, messages) for program in programs],
        judge=judge,
        rounds=1,
    )


def _contestant(place: Place, program: Program, messages: int) -> Contestant:
    way = next(iter(program.known.ways))

    def measure(room: Path) -> Measured:
        with store_in(place, room) as url:
            return _lived(program, url, room, way, messages)

    return Contestant(program.name, program.name, works(program), measure)


def _lived(program: Program, url: str, room: Path, way: str, messages: int) -> Measured:
    marks, output = room / "handled.marks", room / "pump.json"
    create_marks(marks, messages)
    create_marks(rejected_beside(marks), messages // HUNDRED + 1)
    program.call("fill", url, count=0)
    day = _Day(**{each.name: getattr(program, each.name) for each in fields(Program)}, url=url)
    began = monotonic()
    with (
        day.worker(url, marks, way) as worker,
        day.begin("pump", url, output, marks=marks, messages=messages) as pump,
    ):
        samples = [_sample(url, worker, pump, output, messages * step // LOOKS) for step in range(1, LOOKS)]
        _wait(worker, pump, output, lambda: pump.poll() is not None)
        said = answered(pump, output, 0)
        last = Sample(monotonic(), worker.watch.calls(), ask(url, look))
    check_day(said, handled=last.handled, seen=worker.watch.count_seen())
    probes = [(moment, 1000 * seconds) for moment, seconds in said["probes"]]
    return judged([*samples, last], probes, began)


def _sample(url: str, worker: Worker, pump: Popen[bytes], output: Path, count: int) -> Sample:
    """When so many are handled."""
    _wait(worker, pump, output, lambda: worker.watch.calls() >= count)
    return Sample(monotonic(), worker.watch.calls(), ask(url, look))


def _wait(worker: Worker, pump: Popen[bytes], output: Path, is_over: Callable[[], bool]) -> None:
    """`MeasureError` if no message was handled for long, or a process fell over."""
    before, since = -1, monotonic()
    while not is_over():
        worker.check_alive()
        if (calls := worker.watch.calls()) != before:
            before, since = calls, monotonic()
        if pump.poll():
            answered(pump, output, 0)
        if monotonic() > since + PATIENCE_SECONDS:
            raise MeasureError(f"{calls:,} were handled, and then no more")
        sleep(EVERY_SECONDS)


def check_day(said: Mapping[str, Any], *, handled: int, seen: int) -> None:
    """Each message was handled once, or cleared from the dead letters. `MeasureError`."""
    if handled != seen:
        raise MeasureError(f"{handled - seen:,} messages were handled more than once")
    if said["sent"] != seen + said["cleared"]:
        raise MeasureError(f"sent {said['sent']:,}, handled {seen:,}, cleared {said['cleared']:,}")


def judged(samples: Sequence[Sample], probes: Sequence[tuple[float, float]], began: float) -> Measured:
    """`probes` are the moment of each lone send and the milliseconds that it took."""
    first, last = (_rate(samples, *stretch) for stretch in (EARLY, LATE))
    size_first, size_last = (_size(samples, HOT, *stretch) for stretch in (EARLY, LATE))
    sends = [_median_between(probes, samples, *stretch) for stretch in (EARLY, LATE)]
    blocks = [_blocks(samples, *stretch) for stretch in (EARLY, LATE)]
    values = {
        "first": first,
        "last": last,
        "kept": 100 * last / first,
        "send_first": sends[0],
        "send_last": sends[1],
        "blocks_first": blocks[0],
        "blocks_last": blocks[1],
        "walked": 100 * blocks[1] / blocks[0],
        "size_first": size_first,
        "size_last": size_last,
        "grown": 100 * size_last / size_first,
        "passing_last": _size(samples, PASSING, *LATE),
        "whole": sum(samples[-1].look.tables.values()) / MIB,
        "untrue": max(sample.look.untrue for sample in samples),
        "seconds": samples[-1].moment - began,
    }
    return Measured(values, _series(samples, probes, began))


def _series(
    samples: Sequence[Sample], probes: Sequence[tuple[float, float]], began: float
) -> dict[str, Sequence[float]]:
    names = (*HOT, *PASSING)
    steps = range(1, len(samples))
    return {
        "second": [sample.moment - began for sample in samples],
        "handled": [sample.handled for sample in samples],
        "rate": [_rate(samples, step - 1, step) for step in steps],
        "blocks": [_blocks(samples, step - 1, step) for step in steps],
        "send": [_median_between(probes, samples, step - 1, step) for step in steps],
        "hot": [sample.look.size(HOT) / MIB for sample in samples],
        **{f"{name}, MiB": [sample.look.tables[name] / MIB for sample in samples] for name in names},
        **{f"{name}, dead": [sample.look.dead[name] for sample in samples] for name in names},
        **{f"{name}, live": [sample.look.live[name] for sample in samples] for name in names},
        **{
            f"{name}, MiB": [sample.look.indexes[name] / MIB for sample in samples]
            for name in sorted(samples[0].look.indexes)
            if name.startswith(HOT)
        },
    }


def _rate(samples: Sequence[Sample], start: int, end: int) -> float:
    one, other = samples[start], samples[end]
    return (other.handled - one.handled) / (other.moment - one.moment)


def _blocks(samples: Sequence[Sample], start: int, end: int) -> float:
    """Looked at for each message: grows where something dead is walked past, however busy the machine is."""
    one, other = samples[start], samples[end]
    return (other.look.blocks - one.look.blocks) / max(1, other.handled - one.handled)


def _size(samples: Sequence[Sample], names: tuple[str, ...], start: int, end: int) -> float:
    """The most in a stretch, in MiB: between two vacuums tables grow."""
    return max(sample.look.size(names) for sample in samples[start : end + 1]) / MIB


def _median_between(probes: Sequence[tuple[float, float]], samples: Sequence[Sample], start: int, end: int) -> float:
    """0 where there was none."""
    within = [took for moment, took in probes if samples[start].moment <= moment < samples[end].moment]
    return median(within) if within else 0.0
