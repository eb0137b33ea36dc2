"""Ticks around a change of offset: the rules of docs/concepts/cron.md as a table, then against a daemon's oracle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyor.model.cron_expression import CronExpression

BERLIN, NEW_YORK, LORD_HOWE, SANTIAGO = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"

FIXED = [
    # Berlin, gap 02:00-03:00 on 30 March 2025, fold 03:00 back to 02:00 on 26 October.
    (BERLIN, "30 2 * * *", ["2025-03-29T02:30+01:00", "2025-03-30T03:00+02:00", "2025-03-31T02:30+02:00"]),
    (BERLIN, "0 3 * * *", ["2025-03-29T03:00+01:00", "2025-03-30T03:00+02:00", "2025-03-31T03:00+02:00"]),
    (BERLIN, "0,30 2,3 30 3 *", ["2025-03-30T03:00+02:00", "2025-03-30T03:30+02:00"]),
    (BERLIN, "15 2-4/2 30 3 *", ["2025-03-30T03:00+02:00", "2025-03-30T04:15+02:00"]),
    (BERLIN, "30 2 * 10 *", ["2025-10-25T02:30+02:00", "2025-10-26T02:30+02:00", "2025-10-27T02:30+01:00"]),
    (BERLIN, "0 2,3 26 10 *", ["2025-10-26T02:00+02:00", "2025-10-26T03:00+01:00"]),
    (BERLIN, "@daily", ["2025-03-30T00:00+01:00", "2025-03-31T00:00+02:00"]),
    # New York, gap 02:00-03:00 on 9 March 2025, fold 02:00 back to 01:00 on 2 November.
    (NEW_YORK, "30 2 * 3 *", ["2025-03-08T02:30-05:00", "2025-03-09T03:00-04:00", "2025-03-10T02:30-04:00"]),
    (NEW_YORK, "30 1 * 11 *", ["2025-11-01T01:30-04:00", "2025-11-02T01:30-04:00", "2025-11-03T01:30-05:00"]),
    # Lord Howe shifts by half an hour: gap 02:00-02:30 on 5 October 2025, fold 02:00 back to 01:30 on 6 April.
    (LORD_HOWE, "15 2 * 10 *", ["2025-10-04T02:15+10:30", "2025-10-05T02:30+11:00", "2025-10-06T02:15+11:00"]),
    (LORD_HOWE, "15,30,45 2 5 10 *", ["2025-10-05T02:30+11:00", "2025-10-05T02:45+11:00"]),
    (LORD_HOWE, "0,45 1 6 4 *", ["2025-04-06T01:00+11:00", "2025-04-06T01:45+11:00"]),
    (LORD_HOWE, "0 2 * 4 *", ["2025-04-05T02:00+11:00", "2025-04-06T02:00+10:30", "2025-04-07T02:00+10:30"]),
    # Santiago changes at midnight: gap 00:00-01:00 on 7 September 2025, fold 24:00 back to 23:00 on 5 April.
    (SANTIAGO, "0 0 * 9 *", ["2025-09-06T00:00-04:00", "2025-09-07T01:00-03:00", "2025-09-08T00:00-03:00"]),
    (SANTIAGO, "30 0 * 9 SUN", ["2025-09-07T01:00-03:00", "2025-09-14T00:30-03:00"]),
    (SANTIAGO, "30 23 * 4 *", ["2025-04-04T23:30-03:00", "2025-04-05T23:30-03:00", "2025-04-06T23:30-04:00"]),
    (SANTIAGO, "0 0 6 4 *", ["2025-04-06T00:00-04:00"]),
    # Samoa went without 30 December 2011 altogether.
    ("Pacific/Apia", "0 9 * 12 *", ["2011-12-29T09:00-10:00", "2011-12-31T00:00+14:00", "2011-12-31T09:00+14:00"]),
]

WILDCARD = [
    (BERLIN, "*/30 1-3 30 3 *", ["01:00+01:00", "01:30+01:00", "03:00+02:00", "03:30+02:00"]),
    (BERLIN, "0 * 30 3 *", ["00:00+01:00", "01:00+01:00", "03:00+02:00", "04:00+02:00"]),
    (BERLIN, "*/20 2 26 10 *", ["02:00+02:00", "02:20+02:00", "02:40+02:00", "02:00+01:00", "02:20+01:00",
                                "02:40+01:00"]),
    (BERLIN, "30 */2 26 10 *", ["00:30+02:00", "02:30+02:00", "02:30+01:00", "04:30+01:00"]),
    (NEW_YORK, "*/30 1 2 11 *", ["01:00-04:00", "01:30-04:00", "01:00-05:00", "01:30-05:00"]),
    (NEW_YORK, "0 */2 9 3 *", ["00:00-05:00", "04:00-04:00", "06:00-04:00"]),
    (LORD_HOWE, "*/10 */2 5 10 *", ["00:00+10:30", "00:10+10:30", "00:20+10:30", "00:30+10:30", "00:40+10:30",
                                   "00:50+10:30", "02:30+11:00", "02:40+11:00", "02:50+11:00", "04:00+11:00"]),
    (LORD_HOWE, "*/10 */3 5 10 *", ["00:00+10:30", "00:10+10:30", "00:20+10:30", "00:30+10:30", "00:40+10:30",
                                   "00:50+10:30", "03:00+11:00", "03:10+11:00"]),
    (LORD_HOWE, "*/15 1,2 6 4 *", ["01:00+11:00", "01:15+11:00", "01:30+11:00", "01:45+11:00", "01:30+10:30",
                                  "01:45+10:30", "02:00+10:30"]),
    (SANTIAGO, "*/30 * 7 9 *", ["01:00-03:00", "01:30-03:00"]),
    (SANTIAGO, "0 * 5 4 *", ["00:00-03:00", "01:00-03:00"]),
    (SANTIAGO, "*/30 23 5 4 *", ["23:00-03:00", "23:30-03:00", "23:00-04:00", "23:30-04:00"]),
]  # fmt: skip


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp()) * 1000


def local(tick: int | None, zone: str) -> str:
    assert tick is not None
    return datetime.fromtimestamp(tick / 1000, ZoneInfo(zone)).isoformat(timespec="minutes")


def ticks_from(expression: CronExpression, after_ms: int, count: int) -> list[int]:
    ticks: list[int] = []
    while len(ticks) < count:
        tick = expression.next_after(ticks[-1] if ticks else after_ms)
        assert tick is not None
        ticks.append(tick)
    return ticks


@pytest.mark.parametrize(("zone", "text", "expected"), FIXED)
def test_fixed_time_runs_once_right_after_a_gap_and_once_in_a_fold(zone: str, text: str, expected: list[str]) -> None:
    expression = CronExpression.parse(text, timezone=zone)
    ticks = ticks_from(expression, ms(expected[0]) - 1, len(expected))
    assert [local(tick, zone) for tick in ticks] == expected
    assert expression.newest_ticks_between(ticks[0] - 1, ticks[-1], limit=100) == ticks


@pytest.mark.parametrize(("zone", "text", "expected"), WILDCARD)
def test_wildcard_runs_by_elapsed_time_in_both_passes_of_a_fold(zone: str, text: str, expected: list[str]) -> None:
    expression = CronExpression.parse(text, timezone=zone)
    start = datetime(2025, int(text.split()[3]), int(text.split()[2]), tzinfo=ZoneInfo(zone))
    before = int(start.timestamp() * 1000) - 86_400_000 // 2
    ticks = ticks_from(expression, before, len(expected))
    assert [local(tick, zone)[11:] for tick in ticks] == expected
    assert expression.newest_ticks_between(before, ticks[-1], limit=100) == ticks


def test_every_quarter_hour_stays_a_quarter_hour_apart_through_every_change() -> None:
    for zone in (BERLIN, NEW_YORK, LORD_HOWE, SANTIAGO):
        for day in ("2025-04-05", "2025-10-25", "2025-03-09", "2025-11-02", "2025-10-04", "2025-09-07", "2025-03-30"):
            ticks = ticks_from(CronExpression.parse("*/15 * * * *", timezone=zone), ms(f"{day}T00:00+00:00"), 200)
            assert {later - earlier for earlier, later in pairwise(ticks)} == {900_000}


def test_a_wildcard_hour_swallowed_by_the_gap_is_left_out_for_that_day() -> None:
    expression = CronExpression.parse("*/30 2 * * *", timezone=BERLIN)
    assert local(expression.next_after(ms("2025-03-29T02:30+01:00")), BERLIN) == "2025-03-31T02:00+02:00"


def test_a_moment_in_the_second_pass_finds_no_fixed_tick_still_to_come() -> None:
    expression = CronExpression.parse("30 2 * * *", timezone=BERLIN)
    second_pass = ms("2025-10-26T02:10+01:00")
    assert local(expression.next_after(second_pass), BERLIN) == "2025-10-27T02:30+01:00"
    assert local(expression.last_at_or_before(second_pass), BERLIN) == "2025-10-26T02:30+02:00"


def test_the_last_instant_before_a_gap_still_sees_the_tick_right_after_it() -> None:
    expression = CronExpression.parse("30 2 * * *", timezone=BERLIN)
    change = ms("2025-03-30T03:00+02:00")
    assert expression.next_after(change - 1) == change
    assert expression.last_at_or_before(change - 1) == ms("2025-03-29T02:30+01:00")
    assert expression.last_at_or_before(change) == change


def test_the_minute_right_before_a_change_is_found_walking_back_over_it() -> None:
    expression, change = CronExpression.parse("59 * * * *", timezone=BERLIN), ms("2025-03-30T03:00+02:00")
    assert expression.last_at_or_before(change + 1_800_000) == change - 60_000


def test_an_edited_zone_answers_from_the_same_moment_in_the_new_zone() -> None:
    moment = ms("2025-06-01T00:00+00:00")
    ticks = [CronExpression.parse("0 9 * * *", timezone=zone).next_after(moment) for zone in (BERLIN, NEW_YORK)]
    assert ticks == [ms("2025-06-01T09:00+02:00"), ms("2025-06-01T09:00-04:00")]


CHANGES = [
    (BERLIN, "2025-03-30T01:00+00:00"),
    (BERLIN, "2025-10-26T01:00+00:00"),
    (NEW_YORK, "2025-11-02T06:00+00:00"),
    (LORD_HOWE, "2025-04-05T15:00+00:00"),
    (LORD_HOWE, "2025-10-04T15:30+00:00"),
    (SANTIAGO, "2025-04-06T03:00+00:00"),
    (SANTIAGO, "2025-09-07T04:00+00:00"),
    ("Antarctica/Troll", "2025-10-26T01:00+00:00"),
    ("Africa/Casablanca", "2025-02-23T02:00+00:00"),
]


def oracle(zone: str, minutes: list[int], hours: list[int], start: datetime, *, wildcard: str) -> list[int]:
    """Walk a day and a half minute by minute, as a daemon would, and note when it fires."""
    here, ticks, previous = ZoneInfo(zone), [], None
    for count in range(36 * 60):
        instant = start + timedelta(minutes=count)
        wall = instant.astimezone(here)
        skipped = [wall.replace(tzinfo=None)]
        if previous is not None and not wildcard:
            hop = (wall.replace(tzinfo=None) - previous) // timedelta(minutes=1)
            skipped += [wall.replace(tzinfo=None) - timedelta(minutes=back) for back in range(1, hop)]
        if any(at.minute in minutes and at.hour in hours for at in skipped) and (wildcard or not wall.fold):
            ticks.append(int(instant.timestamp()) * 1000)
        previous = wall.replace(tzinfo=None)
    return ticks


@settings(max_examples=120, deadline=None)
@given(
    change=st.sampled_from(CHANGES),
    minutes=st.lists(st.integers(0, 59), min_size=1, max_size=3, unique=True),
    hours=st.lists(st.integers(0, 23), min_size=1, max_size=8, unique=True),
    wildcard=st.sampled_from(["", "minute", "hour"]),
)
def test_ticks_around_a_change_are_those_a_daemon_would_fire(
    change: tuple[str, str], minutes: list[int], hours: list[int], wildcard: str
) -> None:
    zone, moment = change
    minutes = list(range(0, 60, 20)) if wildcard == "minute" else minutes
    hours = list(range(0, 24, 2)) if wildcard == "hour" else hours
    minute = "*/20" if wildcard == "minute" else ",".join(map(str, minutes))
    hour = "*/2" if wildcard == "hour" else ",".join(map(str, hours))
    expression = CronExpression.parse(f"{minute} {hour} * * *", timezone=zone)
    start = datetime.fromisoformat(moment).astimezone(UTC) - timedelta(hours=18)
    expected = oracle(zone, minutes, hours, start, wildcard=wildcard)
    after = int(start.timestamp()) * 1000 - 1
    assert ticks_from(expression, after, len(expected)) == expected
    assert expression.newest_ticks_between(after, after + 36 * 3_600_000, limit=5_000) == expected
