"""Where claims begin on PostgreSQL, by a clock that the test moves."""

from __future__ import annotations

import pytest

from conveyor.store.postgres.marks import CHEAP_S, HEAD, SLACK_MS, STEP_S, Marks
from conveyor.testing.clock import ManualClock

pytestmark = pytest.mark.anyio

LEVEL = (1, 0, 5)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def look(marks: Marks, clock: ManualClock, place: tuple[int, int], *, took: float) -> None:
    began, changes = marks.monotonic(), marks.changes
    await clock.advance(took)
    marks.looked(LEVEL, place, began, changes)


async def test_a_claim_begins_where_the_last_one_ended_and_looks_at_the_head_each_second() -> None:
    clock = ManualClock()
    marks = Marks(clock)
    assert marks.start(LEVEL) == HEAD
    await look(marks, clock, (1_000, 7), took=0.001)
    assert marks.start(LEVEL) == (1_000, 7)
    marks.moved(LEVEL, (1_005, 9), marks.changes)
    assert marks.start(LEVEL) == (1_005, 9)
    await clock.advance(1.1)
    assert marks.start(LEVEL) == HEAD


async def test_what_is_put_back_before_the_mark_lowers_it_and_what_is_put_behind_does_not() -> None:
    clock = ManualClock()
    marks = Marks(clock)
    await look(marks, clock, (1_000, 7), took=0.001)
    marks.lower(LEVEL, (1_001, 3))
    assert marks.start(LEVEL) == (1_000, 7)
    marks.lower(LEVEL, (990, 4))
    assert marks.start(LEVEL) < (990, 4)


async def test_a_claim_that_ran_while_something_was_put_back_does_not_raise_the_mark() -> None:
    clock = ManualClock()
    marks = Marks(clock)
    await look(marks, clock, (1_000, 7), took=0.001)
    before = marks.changes
    marks.lower(LEVEL, (990, 4))
    marks.moved(LEVEL, (1_010, 9), before)
    assert marks.start(LEVEL) < (990, 4)


async def test_where_a_look_is_dear_a_scout_has_it_and_claims_go_on() -> None:
    clock = ManualClock()
    marks = Marks(clock)
    await look(marks, clock, (10_000, 7), took=20 * CHEAP_S)
    assert marks.start_again(LEVEL, (10_000, 7)) == (10_000 - SLACK_MS, -1)
    assert marks.start_again(LEVEL, (10_000 - SLACK_MS, -1)) is None, "the very head is for scouts"
    assert marks.send_scout(LEVEL[0]) is None  # one was just had
    await clock.advance(60)
    assert marks.start(LEVEL) == (10_000 - SLACK_MS, -1), "a send may be committed late"
    assert marks.start(LEVEL) == (10_000, 7), "but not every claim walks past what was claimed since"
    assert marks.send_scout(LEVEL[0]) == (LEVEL, ((8_750, -1), (9_750, -1)))
    assert marks.send_scout(LEVEL[0]) is None, "one scout at a time"
    marks.moved(LEVEL, (20_000, 9), marks.changes)
    assert marks.start(LEVEL) == (20_000, 9)
    await clock.advance(2 * STEP_S)
    assert marks.start(LEVEL) == (20_000 - SLACK_MS, -1)
    marks.scouted(LEVEL, (9_000, 3), 30 * CHEAP_S)
    assert marks.start(LEVEL) == (9_000, 2)


async def test_when_looks_are_cheap_again_claims_have_them_themselves() -> None:
    clock = ManualClock()
    marks = Marks(clock)
    await look(marks, clock, (10_000, 7), took=20 * CHEAP_S)
    await clock.advance(60)
    pieces = []
    while marks.start_again(LEVEL, (10_000, 7)) != HEAD:
        await clock.advance(60)
        found = marks.send_scout(LEVEL[0])
        assert found is not None
        pieces.append(found[1])
        marks.scouted(LEVEL, None, CHEAP_S / 20)
    assert pieces == [((8_750, -1), (9_750, -1)), (HEAD, (8_750, -1))]
    assert marks.start_again(LEVEL, HEAD) is None
    await clock.advance(1.1)
    assert marks.start(LEVEL) == HEAD


async def test_a_scout_without_an_answer_is_sent_again_later() -> None:
    clock = ManualClock()
    marks = Marks(clock)
    await look(marks, clock, (10_000, 7), took=20 * CHEAP_S)
    await clock.advance(60)
    assert marks.send_scout(LEVEL[0]) is not None
    marks.scouted(LEVEL, None, None)
    assert marks.send_scout(LEVEL[0]) is None
    await clock.advance(60)
    assert marks.send_scout(LEVEL[0]) is not None


async def test_scouts_go_back_piece_by_piece_and_each_piece_is_as_wide_as_is_quick() -> None:
    clock = ManualClock()
    marks = Marks(clock)
    await look(marks, clock, (1_000_000, 7), took=20 * CHEAP_S)
    seen = []
    for took in (CHEAP_S, 2 * CHEAP_S, CHEAP_S / 3, CHEAP_S / 20, 0.0):
        await clock.advance(60)
        found = marks.send_scout(LEVEL[0])
        assert found is not None
        seen.append(found[1])
        await clock.advance(took)
        marks.scouted(LEVEL, None, took)
    assert seen == [
        ((998_750, -1), (999_750, -1)),
        ((997_750, -1), (998_750, -1)),
        ((997_250, -1), (997_750, -1)),
        ((996_250, -1), (997_250, -1)),
        ((980_250, -1), (996_250, -1)),
    ]


async def test_a_scout_that_found_something_sends_the_next_one_from_there() -> None:
    clock = ManualClock()
    marks = Marks(clock)
    await look(marks, clock, (1_000_000, 7), took=20 * CHEAP_S)
    await clock.advance(60)
    assert marks.send_scout(LEVEL[0]) is not None
    marks.scouted(LEVEL, (999_000, 3), CHEAP_S)
    assert marks.start(LEVEL) < (999_000, 3)
    await clock.advance(60)
    assert marks.send_scout(LEVEL[0]) == (LEVEL, ((997_750, -1), (998_750, -1)))


async def test_a_whole_way_back_that_was_cheap_ends_the_scouts() -> None:
    clock = ManualClock()
    marks = Marks(clock)
    await look(marks, clock, (1_700_000_000_000, 7), took=20 * CHEAP_S)
    pieces = 0
    while marks.start_again(LEVEL, (1_700_000_000_000, 7)) != HEAD:
        await clock.advance(60)
        assert marks.send_scout(LEVEL[0]) is not None
        marks.scouted(LEVEL, None, CHEAP_S / 20)
        pieces += 1
    assert pieces < 12
