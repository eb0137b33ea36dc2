"""The bench of a store's age: what it sends is what it says, its judgement sees rot, and it runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from bench.age.fates import EBB, FLOW, KEYS, Fate, ahead_of, fate_of, key_of
from bench.age.look import HOT, PASSING, Look
from bench.field import Field, gather_field
from bench.places import Files
from bench.postgres import Server
from bench.program import MeasureError
from bench.scenario import Contestant, Options, Standing, Standings
from bench.scenarios.age import LOOKS, MIB, Sample, age, check_day, judged

MESSAGES = 10_000_000


def looked(step: int, *, size: int = MIB, blocks: int = 10, untrue: int = 0) -> Sample:
    """At a look's moment: a thousand messages a second, and nothing grows unless it is said."""
    tables: dict[str, int] = dict.fromkeys((*HOT, *PASSING), size)
    rows: dict[str, int] = dict.fromkeys(tables, 0)
    look = Look(tables, {"ready_pkey": size}, rows, rows, blocks=1_000 * step * blocks, untrue=untrue)
    return Sample(float(step), 1_000 * step, look)


def options_in(folder: Path) -> Options:
    return Options(rounds=1, quick=True, held_seconds=1, messages=MESSAGES, directory=folder)


def test_a_hundred_messages_have_the_shares_that_the_docs_say() -> None:
    found = Counter(fate_of(number) for number in range(700, 800))
    assert found == {
        Fate.DELAYED: 5, Fate.RETRIED: 5, Fate.DEDUPED: 2, Fate.ORDERED: 2,
        Fate.REJECTED: 1, Fate.JOB: 5, Fate.ALONE: 10, Fate.PLAIN: 70,
    }  # fmt: skip


def test_the_ordered_ones_take_all_keys_in_turn() -> None:
    keys = [key_of(number) for number in range(100_000) if fate_of(number) is Fate.ORDERED]
    assert Counter(Counter(keys).values()) == {2: KEYS}


def test_as_many_wait_in_the_last_tenth_as_in_the_first() -> None:
    first, last = ([ahead_of(start + step / 1_000, MESSAGES) for step in range(100)] for start in (0.05, 0.85))
    assert first == pytest.approx(last, abs=1)
    assert (min(first), max(first)) == pytest.approx((EBB, FLOW), abs=200)


def test_what_keeps_its_size_is_not_old() -> None:
    values = judged([looked(step) for step in range(1, LOOKS + 1)], [(3.5, 1.0), (36.5, 2.0)], 0.0).values
    assert (values["kept"], values["grown"], values["walked"], values["untrue"]) == (100, 100, 100, 0)
    assert (values["send_first"], values["send_last"]) == (1.0, 2.0)


def test_rot_is_seen() -> None:
    samples = [
        looked(step, size=step * MIB, blocks=step, untrue=7 if step == LOOKS else 0) for step in range(1, LOOKS + 1)
    ]
    values = judged(samples, [], 0.0).values
    assert values["grown"] > 600
    assert values["walked"] > 600
    assert values["untrue"] == 7


def test_tables_are_not_judged_before_vacuum_has_come_some_times(tmp_path: Path) -> None:
    samples = [looked(step) for step in range(1, LOOKS + 1)]
    judge = age(Field(Files()), options_in(tmp_path)).judge
    contestant = Contestant("conveyor", "conveyor", "", lambda _: judged([], [], 0.0))
    measured = {seconds: [judged(samples, [], LOOKS - seconds)] for seconds in (599, 601)}
    said = {
        seconds: [verdict.passes(verdict.gate) for verdict in judge(Standings([Standing(contestant, rounds)]))]
        for seconds, rounds in measured.items()
    }
    assert said == {599: [True, None, None, True], 601: [True, True, True, True]}


@pytest.mark.parametrize(
    ("handled", "seen", "cleared", "complaint"),
    [(10, 9, 1, "1 messages were handled more than once"), (8, 8, 1, "sent 10")],
)
def test_books_that_do_not_balance_are_no_figure(handled: int, seen: int, cleared: int, complaint: str) -> None:
    with pytest.raises(MeasureError, match=complaint):
        check_day({"sent": 10, "cleared": cleared}, handled=handled, seen=seen)


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_a_short_life_is_measured() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        server = Server(folder / "postgres")
        try:
            field = gather_field(server, folder, guests=[], wanted=["conveyor"])
            assert not field.absent
            [contestant] = age(field, options_in(folder)).contestants
            room = folder / "room"
            room.mkdir()
            measured = contestant.measure(room)
        finally:
            server.remove()
    assert measured.values["untrue"] == 0
    assert measured.series["handled"][-1] > 7_900
    assert measured.series["jobs, live"][-1] > 0
