"""Enqueue: acknowledged sends a second, one at a time, from 50 callers at once, and in bulk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.field import Field
from bench.places import store_in
from bench.program import Program
from bench.scenario import Bar, Contestant, Measured, Metric, Options, Scenario
from bench.scenarios.check import check_books

CALLERS = 50
BULK = 1_000
GATES = {
    "sqlite": {"huey": Bar("enqueue", 6, 9), "litequeue": Bar("enqueue", 3, 4.5)},
    "postgres": {"pgqueuer": Bar("enqueue", 8, 12)},
}
BULK_GATES = {"sqlite": {}, "postgres": {"pgqueuer": Bar("bulk", 2)}}


def single(field: Field, options: Options) -> Scenario:
    seconds = options.scaled(3, 1)
    title = f"Enqueue by one caller, one message a call, {seconds} s"
    return _scenario(field, "single", title, "enqueue", {"callers": 1, "seconds": seconds}, {})


def enqueue(field: Field, options: Options) -> Scenario:
    seconds = options.scaled(3, 1)
    title = f"Enqueue from {CALLERS} callers, one message a call, {seconds} s"
    told = {"callers": CALLERS, "seconds": seconds}
    return _scenario(field, "enqueue", title, "enqueue", told, GATES[field.place.name])


def bulk(field: Field, options: Options) -> Scenario:
    seconds = options.scaled(3, 1)
    title = f"Enqueue by one caller who hands over {BULK:,} messages at a time, {seconds} s"
    told = {"batch": BULK, "seconds": seconds}
    return _scenario(field, "bulk", title, "bulk", told, BULK_GATES[field.place.name])


def _scenario(
    field: Field, name: str, title: str, verb: str, told: dict[str, int], gates: Mapping[str, Bar]
) -> Scenario:
    return Scenario(
        name=name,
        store=field.place.name,
        title=title,
        metrics=[Metric("rate", "messages/s")],
        contestants=[_contestant(field, program, verb, told) for program in field.everybody()],
        judge=lambda standings: standings.ratios("conveyor", gates, "rate"),
    )


def _contestant(field: Field, program: Program, verb: str, told: dict[str, int]) -> Contestant:
    def measure(room: Path) -> Measured:
        with store_in(field.place, room) as url:
            answer = program.call(verb, url, **told)
            check_books(program, url, answer["sent"])
        return Measured({"rate": answer["rate"]})

    loop = f" on {program.known.loop}" if program.known.callers == "coroutines" else ""
    callers = f"{told.get('callers', 1)} {program.known.callers}{loop}"
    return Contestant(program.name, program.name, f"{callers}; {program.known.settings}", measure)
