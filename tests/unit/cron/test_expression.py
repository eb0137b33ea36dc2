"""What a cron line means in either syntax, away from clock changes, and how a bad one is refused."""

from __future__ import annotations

import pickle
import time
from datetime import UTC, datetime

import pytest
from croniter import CroniterBadDateError, croniter  # type: ignore[import-untyped]  # it has no types
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyor.model.beside import CronSyntaxError
from conveyor.model.cron_expression import CronExpression, Syntax


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * 1000


def ticks(text: str, after: str, count: int, *, syntax: Syntax = Syntax.UNIX) -> list[str]:
    expression, moment, found = CronExpression.parse(text, syntax=syntax), ms(after), []
    for _ in range(count):
        tick = expression.next_after(moment)
        assert tick is not None
        moment = tick
        found.append(datetime.fromtimestamp(tick / 1000, UTC).strftime("%Y-%m-%d %H:%M"))
    return found


def days(text: str, after: str, count: int, *, syntax: Syntax = Syntax.UNIX) -> list[str]:
    return [tick[5:10] for tick in ticks(text, after, count, syntax=syntax)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 * * 0", ["06-01", "06-08"]),
        ("0 0 * * 7", ["06-01", "06-08"]),
        ("0 0 * * sun", ["06-01", "06-08"]),
        ("0 0 * * 1-5", ["06-02", "06-03", "06-04", "06-05", "06-06", "06-09"]),
        ("0 0 * * FRI-SUN", ["05-31", "06-01", "06-06", "06-07", "06-08"]),
        ("0 0 * jun-jul Mon#1", ["06-02", "07-07"]),
        ("0 0 L * *", ["05-31", "06-30", "07-31"]),
        ("0 0 LW * *", ["06-30", "07-31", "08-29"]),
        ("0 0 * * 5L", ["06-27", "07-25"]),
        ("0 0 * * friL", ["06-27", "07-25"]),
        ("0 0 13 * FRI", ["06-06", "06-13", "06-20", "06-27", "07-04", "07-11", "07-13"]),
        ("0 0 */2 * MON", ["06-09", "06-23"]),
        ("@weekly", ["06-01", "06-08"]),
        ("@Monthly", ["06-01", "07-01"]),
        ("@yearly", ["01-01"]),
    ],
)
def test_unix_syntax_counts_weekdays_from_sunday_zero(text: str, expected: list[str]) -> None:
    assert days(text, "2025-05-30T12:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 17 * * 1", ["06-01", "06-08"]),
        ("0 17 * * 7", ["05-31", "06-07"]),
        ("0 17 * * sun", ["06-01", "06-08"]),
        ("0 17 * * MON-FRI", ["05-30", "06-02", "06-03", "06-04", "06-05", "06-06", "06-09"]),
        ("0 17 ? * FRI-MON", ["05-30", "05-31", "06-01", "06-02", "06-06"]),
        ("0 17 ? * 6-2/2", ["05-30", "06-01", "06-06", "06-08"]),
        ("0 17 * * 2/2", ["05-30", "06-02", "06-04", "06-06"]),
        ("0 17 28-2 * ?", ["05-30", "05-31", "06-01", "06-02", "06-28"]),
        ("0 17 * 11-1 2#1", ["11-03", "12-01", "01-05"]),
        ("0 17 * * L", ["05-31", "06-07"]),
        ("0 17 * * 6L", ["05-30", "06-27"]),
        ("0 17 * * friL", ["05-30", "06-27"]),
        ("0 17 * * fri#5", ["05-30", "08-29"]),
        ("0 17 L * ?", ["05-31", "06-30"]),
        ("59 23 LW * *", ["05-30", "06-30"]),
        ("0 17 15W * *", ["06-16", "07-15", "08-15", "09-15"]),
        ("0 17 1W * *", ["06-02", "07-01", "08-01", "09-01", "10-01", "11-03"]),
        ("0 17 31W * *", ["05-30", "07-31", "08-29", "10-31"]),
        ("0 17 l-3 * *", ["06-27", "07-28", "08-28"]),
        ("0 17 L-1W * *", ["05-30", "06-30", "07-30", "08-29"]),
        ("0 17 1W,15 * *", ["06-02", "06-15", "07-01", "07-15"]),
        ("0 17 15W * 1", ["06-01", "06-08", "06-15", "06-16"]),
        ("0 17 */20 * 2", ["06-01", "06-02", "06-09", "06-16", "06-21", "06-23"]),
    ],
)
def test_cloudflare_syntax_counts_weekdays_from_sunday_one(text: str, expected: list[str]) -> None:
    assert days(text, "2025-05-30T12:00", len(expected), syntax=Syntax.CLOUDFLARE) == expected


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 0 29 2 *", "2023-01-01T00:00", ["2024-02-29 00:00", "2028-02-29 00:00"]),
        ("0 0 28 2 *", "2024-02-28T00:00", ["2025-02-28 00:00"]),
        ("0 0 29 2 *", "1999-03-01T00:00", ["2000-02-29 00:00"]),
        ("59 23 31 12 *", "2024-12-31T23:58", ["2024-12-31 23:59", "2025-12-31 23:59"]),
        ("* * * * *", "2024-12-31T23:59", ["2025-01-01 00:00", "2025-01-01 00:01"]),
        ("14 3 * * *", "2038-01-18T04:00", ["2038-01-19 03:14", "2038-01-20 03:14"]),
        ("0 0 1 1 *", "2106-02-07T06:28", ["2107-01-01 00:00"]),
        ("59 23 31 12 *", "2016-12-30T00:00", ["2016-12-31 23:59"]),
        ("* * * * *", "2016-12-31T23:59", ["2017-01-01 00:00"]),
        ("5-5/2 0 * * *", "2025-01-01T00:00", ["2025-01-01 00:05", "2025-01-02 00:05"]),
        ("5/25 0 * * *", "2025-01-01T00:00", ["2025-01-01 00:05", "2025-01-01 00:30", "2025-01-01 00:55"]),
    ],
)
def test_leap_days_year_ends_and_2038_are_exact(text: str, after: str, expected: list[str]) -> None:
    assert ticks(text, after, len(expected)) == expected


def test_next_is_strictly_after_and_last_is_at_or_before() -> None:
    expression, tick = CronExpression.parse("*/5 * * * *"), ms("2025-06-01T12:00")
    assert expression.next_after(tick - 1) == tick
    assert expression.next_after(tick) == tick + 300_000
    assert expression.last_at_or_before(tick) == tick
    assert expression.last_at_or_before(tick - 1) == tick - 300_000


def test_no_tick_within_five_years_is_none_and_not_an_error() -> None:
    expression = CronExpression.parse("0 0 29 2 *")
    assert expression.next_after(ms("2096-03-01T00:00")) is None
    assert expression.next_after(ms("2100-01-01T00:00")) == ms("2104-02-29T00:00")
    assert expression.last_at_or_before(ms("2104-01-01T00:00")) is None
    assert expression.next_after(ms("2099-01-10T00:00")) is None
    assert expression.last_at_or_before(ms("2101-04-01T00:00")) is None
    assert CronExpression.parse("0 0 * 2 MON#5").next_after(ms("2025-01-01T00:00")) is None


@pytest.mark.parametrize("moment_ms", [10**15, -(10**15), 10**30, -(10**30)])
def test_a_moment_outside_the_calendar_has_no_ticks(moment_ms: int) -> None:
    expression = CronExpression.parse("* * * * *", timezone="Europe/Berlin")
    assert expression.next_after(moment_ms) is None
    assert expression.last_at_or_before(moment_ms) is None
    assert expression.newest_ticks_between(moment_ms, moment_ms, limit=10) == []


def test_missed_ticks_are_cut_to_the_newest_and_come_oldest_first() -> None:
    expression, until = CronExpression.parse("* * * * *"), ms("2025-06-01T12:00")
    assert expression.newest_ticks_between(ms("2020-01-01T00:00"), until, limit=3) == [
        until - 120_000,
        until - 60_000,
        until,
    ]
    assert expression.newest_ticks_between(until - 60_000, until, limit=100) == [until]
    assert expression.newest_ticks_between(until, until, limit=100) == []
    assert expression.newest_ticks_between(ms("2020-01-01T00:00"), until, limit=0) == []


UNIX, CLOUDFLARE = Syntax.UNIX, Syntax.CLOUDFLARE


@pytest.mark.parametrize(
    ("text", "syntax", "said"),
    [
        ("60 * * * *", UNIX, "minute `60` is out of range (allowed: 0-59)"),
        ("* 24 * * *", UNIX, "hour `24` is out of range (allowed: 0-23)"),
        ("* * 0 * *", UNIX, "day-of-month `0` is out of range (allowed: 1-31)"),
        ("* * * FOO *", UNIX, "month `FOO` is out of range (allowed: 1-12 or JAN-DEC)"),
        ("* * * * 8", UNIX, "day-of-week `8` is out of range (allowed: 0-7 or SUN-SAT)"),
        ("* * * * 0", CLOUDFLARE, "allowed: 1-7 or SUN-SAT, Sunday is 1 in Cloudflare's syntax"),
        ("* * * * 8", CLOUDFLARE, "day-of-week `8` is out of range"),
        ("*/0 * * * *", UNIX, "minute step `0` is out of range (allowed: 1-60"),
        ("*/90 * * * *", UNIX, "minute step `90` is out of range (allowed: 1-60"),
        ("5-SUN * * * *", UNIX, "minute `SUN` is out of range"),
        ("1,,2 * * * *", UNIX, "minute `` is no value, range or step (allowed: 0-59)"),
        ("*-5 * * * *", UNIX, "minute `*-5` is no value, range or step"),
        ("-1 * * * *", UNIX, "minute `-1` is no value, range or step"),
        ("1.5 * * * *", UNIX, "minute `1.5` is no value, range or step"),
        ("L * * * *", UNIX, "minute `L` is out of range"),
        ("* 22-2 * * *", UNIX, "hour range `22-2` runs backwards (write `22-23,0-2`)"),
        ("* * ? * *", UNIX, "day-of-month `?` belongs to Cloudflare's syntax (write `*`)"),
        ("? * * * *", CLOUDFLARE, "minute `?` is no value, range or step"),
        ("* * * * L", UNIX, "day-of-week `L` does not say which day"),
        ("* * * * 1#6", UNIX, "day-of-week `1#6` is out of range (allowed: #1 to #5)"),
        ("* * 32W * *", CLOUDFLARE, "day-of-month `32` is out of range"),
        ("* * L-31 * *", CLOUDFLARE, "day-of-month `L-31` is out of range (allowed: L-1 to L-30)"),
        ("* * * *", UNIX, "it has 4 fields, five are needed"),
        ("", UNIX, "it has 0 fields, five are needed"),
        ("0 * * * * *", UNIX, "seconds are not supported: drop the first field"),
        ("@reboot", UNIX, "`@reboot` is not a known macro (known: @yearly"),
        ("@weekly", CLOUDFLARE, "Cloudflare's syntax has no `@weekly` (write `0 0 * * 1`)"),
        ("*\n* * * *", UNIX, "only printable ASCII"),
        ("\u0663 * * * *", UNIX, "only printable ASCII"),
        ("0 0 30 2 *", UNIX, "no date ever matches it"),
        ("0 0 31 4,6 *", UNIX, "no date ever matches it"),
        ("0 0 30W 2 ?", CLOUDFLARE, "no date ever matches it"),
        ("0 0 L-29 2 ?", CLOUDFLARE, "no date ever matches it"),
        (f"{'0,' * 130}0 * * * *", UNIX, "the limit is 256"),
    ],
)
def test_a_bad_line_is_refused_with_its_field_value_and_range(text: str, syntax: Syntax, said: str) -> None:
    with pytest.raises(CronSyntaxError) as refusal:
        CronExpression.parse(text, syntax=syntax)
    assert said in str(refusal.value)
    assert refusal.value.code == "cron_syntax"


@pytest.mark.parametrize("text", ["0 0 30 2 *", "x" * 1_000_000, " " * 1_000_000, "9" * 1_000_000, "0 0 30W 2 *"])
def test_hostile_lines_are_refused_within_50_ms(text: str) -> None:
    took_s = []
    for _ in range(3):  # one of them may be interrupted by a collection of garbage
        started = time.process_time()
        with pytest.raises(CronSyntaxError):
            CronExpression.parse(text)
        took_s.append(time.process_time() - started)
    assert min(took_s) < 0.05


@pytest.mark.parametrize(
    "timezone",
    [
        "Nope/City",
        "",
        "../etc/passwd",
        "/etc/localtime",
        "Europe",
        "right/Europe/Berlin",
        "localtime",
        "UTC\0",
        "X" * 999,
    ],
)
def test_an_unknown_or_machine_dependent_zone_is_refused(timezone: str) -> None:
    with pytest.raises(CronSyntaxError, match="is not known"):
        CronExpression.parse("* * * * *", timezone=timezone)


def test_cloudflare_syntax_refuses_any_zone_but_utc() -> None:
    with pytest.raises(CronSyntaxError, match="runs in UTC only, not in `Europe/Berlin`"):
        CronExpression.parse("0 9 * * *", syntax=Syntax.CLOUDFLARE, timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "syntax", "said"),
    [
        ("30 16 * * *", UNIX, "At 16:30 every day (UTC)"),
        ("0 17 * * 1", CLOUDFLARE, "At 17:00 on Sunday (UTC)"),
        ("0 17 * * 1", UNIX, "At 17:00 on Monday (UTC)"),
        ("0 9 22 * *", UNIX, "At 09:00 on the 22nd day of every month (UTC)"),
        ("0 9 11,23 * *", UNIX, "At 09:00 on the 11th and the 23rd day of month (UTC)"),
        ("0 9 15W * ?", CLOUDFLARE, "At 09:00 on the weekday nearest to day 15 of the month (UTC)"),
        (
            "0 9 1,L-3 * ?",
            CLOUDFLARE,
            "At 09:00 on the first day of month and 3 days before the last day of the month (UTC)",
        ),
        ("@hourly", UNIX, "At the start of every hour (UTC)"),
    ],
)
def test_an_expression_explains_itself(text: str, syntax: Syntax, said: str) -> None:
    assert CronExpression.parse(text, syntax=syntax).explain() == said


def test_an_expression_is_a_value_that_keeps_its_text_and_survives_pickling() -> None:
    expression = CronExpression.parse(" 0  9 * * mon ", timezone="Europe/Berlin")
    assert (
        expression == pickle.loads(pickle.dumps(expression)) == CronExpression(" 0  9 * * mon ", UNIX, "Europe/Berlin")
    )
    assert len({expression, CronExpression.parse("0 9 * * mon", timezone="Europe/Berlin")}) == 2
    assert repr(expression) == (
        "CronExpression(text=' 0  9 * * mon ', syntax=<Syntax.UNIX: 'unix'>, timezone='Europe/Berlin')"
    )


def test_a_starred_day_list_with_a_nearest_weekday_still_joins_the_weekday_by_and() -> None:
    # cronsim joins the day fields by AND when one begins with a star; a W must not change that.
    assert days("0 0 */10,15W * MON", "2025-05-30T12:00", 3) == ["06-16", "07-21", "08-11"]


def field(low: int, high: int, *, star: bool) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    pair = st.tuples(value, value).map(sorted)
    term = st.one_of(
        value.map(str),
        pair.map(lambda ends: f"{ends[0]}-{ends[1]}" if ends[0] < ends[1] else str(ends[0])),
        st.tuples(pair, st.integers(2, 7)).map(
            lambda it: f"{it[0][0]}-{it[0][1]}/{it[1]}" if it[0][0] + it[1] <= it[0][1] else str(it[0][0])
        ),
    )
    listed = st.lists(term, min_size=1, max_size=3).map(",".join)
    stepped = st.integers(2, high).map(lambda step: f"*/{step}")
    return st.one_of(st.just("*"), listed, stepped) if star else st.one_of(st.just("*"), listed)


# Full ranges and stepped stars in the day fields are where croniter departs from Debian, so they are kept out.
LINES = st.tuples(
    field(0, 59, star=True),
    field(0, 23, star=True),
    field(1, 28, star=False),
    field(1, 12, star=True),
    field(1, 5, star=False),
).map(" ".join)
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)).map(lambda moment: moment.replace(microsecond=0))


@settings(max_examples=200, deadline=None)
@given(text=LINES, moment=MOMENTS)
def test_ticks_agree_with_croniter_on_what_both_can_say(text: str, moment: datetime) -> None:
    expression, theirs = CronExpression.parse(text), croniter(text, moment.replace(tzinfo=UTC))
    at = int(moment.replace(tzinfo=UTC).timestamp()) * 1000
    for _ in range(3):
        try:
            expected = int(theirs.get_next(float)) * 1000
        except CroniterBadDateError:
            expected = None
        assert expression.next_after(at) == expected
        if expected is None:
            break
        at = expected


@settings(max_examples=150, deadline=None)
@given(text=LINES, moment=MOMENTS, zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]))
def test_walking_back_meets_the_ticks_met_walking_forward(text: str, moment: datetime, zone: str) -> None:
    expression = CronExpression.parse(text, timezone=zone)
    at = int(moment.replace(tzinfo=UTC).timestamp()) * 1000
    first = expression.next_after(at)
    if first is not None:
        second = expression.next_after(first)
        assert expression.last_at_or_before(first) == first
        assert second is None or expression.last_at_or_before(second - 1) == first
        assert expression.newest_ticks_between(at, first, limit=10) == [first]


@settings(max_examples=300, deadline=None)
@given(text=st.text("0123456789*/-,LW#?@ JANMONSUN", max_size=30), syntax=st.sampled_from(Syntax))
def test_any_line_is_either_understood_or_refused(text: str, syntax: Syntax) -> None:
    try:
        expression = CronExpression.parse(text, syntax=syntax)
    except CronSyntaxError:
        return
    assert expression.explain()
    expression.next_after(0)
