"""Reads a cron line in a stated syntax, checks it field by field, and rewrites it into what `cronsim` knows.

In comes a user's text; out go five plain fields and the few days cronsim cannot say, or an error that names the field.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from conveyor.model.beside import CronSyntaxError

TEXT_CHARS_MAX: Final = 256

_MACROS: Final = MappingProxyType({
    "@YEARLY": "0 0 1 1 *", "@ANNUALLY": "0 0 1 1 *", "@MONTHLY": "0 0 1 * *", "@WEEKLY": "0 0 * * 0",
    "@DAILY": "0 0 * * *", "@MIDNIGHT": "0 0 * * *", "@HOURLY": "0 * * * *",
})  # fmt: skip


class Syntax(StrEnum):
    """Which reading of the five fields is meant; the two disagree on weekdays, so it is stated and never guessed."""

    UNIX = "unix"
    CLOUDFLARE = "cloudflare"


class _LineError(ValueError):
    """What is wrong with a line, before the line itself is known to the complaint."""

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """One of the five fields: its range, its names, and how far its numbers are from cronsim's."""

    name: str
    low: int
    high: int
    names: str = ""
    shift: int = 0
    syntax: Syntax

    @property
    def allowed(self) -> str:
        return f"allowed: {self.low}-{self.high}" + (f" or {self.names[:3]}-{self.names[-3:]}" if self.names else "")

    def value(self, token: str) -> int:
        if token in self.names.split():
            return self.low + self.names.split().index(token)
        if token.isdigit() and self.low <= int(token) <= self.high:
            return int(token)
        shifted = ", Sunday is 1 in Cloudflare's syntax" if self.shift else ""
        raise _LineError(f"{self.name} `{token}` is out of range", hint=self.allowed + shifted)

    def step(self, token: str | None) -> int:
        largest = self.high - self.low + 1
        if token is not None and not 1 <= int(token) <= largest:
            raise _LineError(
                f"{self.name} step `{token}` is out of range",
                hint=f"allowed: 1-{largest}, a step starts anew with each round of its field",
            )
        return 1 if token is None else int(token)


def _fields(syntax: Syntax) -> tuple[_Field, ...]:
    months, weekdays = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", "SUN MON TUE WED THU FRI SAT"
    sunday = 1 if syntax is Syntax.CLOUDFLARE else 0
    return (
        _Field(name="minute", low=0, high=59, syntax=syntax),
        _Field(name="hour", low=0, high=23, syntax=syntax),
        _Field(name="day-of-month", low=1, high=31, syntax=syntax),
        _Field(name="month", low=1, high=12, names=months, syntax=syntax),
        _Field(name="day-of-week", low=sunday, high=7, names=weekdays, shift=sunday, syntax=syntax),
    )


_FIELDS: Final = MappingProxyType({syntax: _fields(syntax) for syntax in Syntax})
_TERM: Final = re.compile(r"(\*|[0-9]+|[A-Z]+)(?:-([0-9]+|[A-Z]+))?(?:/([0-9]+))?")
_MONTH_DAY: Final = re.compile(r"([0-9]+)W|L(?:-([0-9]+))?(W)?")
_MONTH_WEEKDAY: Final = re.compile(r"([0-9]+|[A-Z]{3})(?:L|#([0-9]+))")


@dataclass(frozen=True, slots=True)
class MonthDay:
    """A day cronsim cannot say: `15W`, `L-3` or `L-3W`; a negative day counts back from the month's last, -1."""

    day: int
    nearest_weekday: bool

    def matches(self, moment: date) -> bool:
        first_weekday, length = calendar.monthrange(moment.year, moment.month)
        wanted = self.day if self.day > 0 else length + 1 + self.day
        if not 1 <= wanted <= length:
            return False
        if self.nearest_weekday:
            weekday = (first_weekday + wanted - 1) % 7
            if weekday == calendar.SATURDAY:
                wanted += -1 if wanted > 1 else 2
            elif weekday == calendar.SUNDAY:
                wanted += 1 if wanted < length else -2
        return moment.day == wanted

    def __str__(self) -> str:
        day = f"day {self.day}" if self.day > 0 else f"{-self.day - 1} days before the last day"
        return f"the weekday nearest to {day} of the month" if self.nearest_weekday else f"{day} of the month"


@dataclass(frozen=True, slots=True)
class Line:
    """A line rewritten: day-of-month is empty when `month_days` say all of it."""

    minute: str
    hour: str
    day_of_month: str
    month_days: tuple[MonthDay, ...]
    month: str
    day_of_week: str


def read(text: str, syntax: Syntax) -> Line:
    """The line in cronsim's words, or `CronSyntaxError` naming the field that is wrong."""
    try:
        return _rewritten(_split(text, syntax), syntax)
    except _LineError as problem:
        raise CronSyntaxError(text, str(problem), hint=problem.hint) from None


def _split(text: str, syntax: Syntax) -> list[str]:
    if len(text) > TEXT_CHARS_MAX:
        raise _LineError(f"it is {len(text):,} characters long, the limit is {TEXT_CHARS_MAX}")
    if not text.isascii() or not text.replace("\t", " ").isprintable():
        raise _LineError("only printable ASCII characters, spaces and tabs are allowed")
    line = text.strip().upper()
    if line.startswith("@"):
        line = _expand_macro(line, syntax)
    fields = line.split()
    if len(fields) == 6:
        raise _LineError("it has six fields, five are needed", hint="seconds are not supported: drop the first field")
    if len(fields) != 5:
        raise _LineError(f"it has {len(fields)} fields, five are needed")
    return fields


def _expand_macro(line: str, syntax: Syntax) -> str:
    plain = _MACROS.get(line)
    if plain is None:
        raise _LineError(f"`{line.lower()}` is not a known macro", hint=f"known: {', '.join(_MACROS).lower()}")
    if syntax is Syntax.CLOUDFLARE:
        # The weekday is the one number the two syntaxes read differently.
        hint = f"write `{'0 0 * * 1' if line == '@WEEKLY' else plain}`"
        raise _LineError(f"Cloudflare's syntax has no `{line.lower()}`", hint=hint)
    return plain


def _rewritten(texts: list[str], syntax: Syntax) -> Line:
    month_days: list[MonthDay] = []
    readers: dict[str, Callable[[_Field, str], str]] = {
        "day-of-month": lambda field, term: _month_day(field, term, month_days),
        "day-of-week": _weekday,
    }
    plain = []
    for field, text in zip(_FIELDS[syntax], texts, strict=True):
        terms = [readers.get(field.name, _span)(field, term) for term in text.split(",")]
        plain.append(",".join(filter(None, terms)))
    minute, hour, days, month, weekday = plain
    return Line(minute, hour, days, tuple(month_days), month, weekday)


def _month_day(field: _Field, term: str, month_days: list[MonthDay]) -> str:
    match = _MONTH_DAY.fullmatch(term)
    if match is None:
        return _day_span(field, term)
    day, back, weekday = match.groups()
    if day is None and back is None:
        return term
    if back and not 1 <= int(back) <= 30:
        raise _LineError(f"{field.name} `{term}` is out of range", hint="allowed: L-1 to L-30")
    chosen = field.value(day) if day else -1 - int(back)
    month_days.append(MonthDay(chosen, nearest_weekday=bool(day or weekday)))
    return ""


def _weekday(field: _Field, term: str) -> str:
    if term == "L":
        if field.syntax is Syntax.UNIX:
            raise _LineError(f"{field.name} `L` does not say which day", hint="`5L` or `FRIL` is the last Friday")
        return str(field.high - field.shift)
    match = _MONTH_WEEKDAY.fullmatch(term)
    if match is None:
        return _day_span(field, term)
    day, nth = field.value(match[1]) - field.shift, match[2]
    if nth is None:
        return f"{day}L"
    if not 1 <= int(nth) <= 5:
        raise _LineError(f"{field.name} `{term}` is out of range", hint="allowed: #1 to #5")
    return f"{day}#{nth}"


def _day_span(field: _Field, term: str) -> str:
    if term == "?":
        if field.syntax is Syntax.UNIX:
            raise _LineError(f"{field.name} `?` belongs to Cloudflare's syntax", hint="write `*`")
        return "*"
    if term.startswith("*/") and field.syntax is Syntax.CLOUDFLARE:
        # Cloudflare joins the two day fields by OR unless one is a bare star; Debian lets `*/2` count as a star too.
        term = f"{field.low}-{field.high}{term[1:]}"
    return _span(field, term)


def _span(field: _Field, term: str) -> str:
    """A star, value, range or step in cronsim's numbers."""
    match = _TERM.fullmatch(term)
    if match is None or (match[1] == "*" and match[2]):
        raise _LineError(f"{field.name} `{term}` is no value, range or step", hint=field.allowed)
    step = field.step(match[3])
    if match[1] == "*":
        return "*" if match[3] is None else f"*/{step}"
    low = field.value(match[1])
    if match[2] is None:
        high = low if match[3] is None else field.high
    else:
        # FRI-SUN reads forwards although Sunday is also 0.
        high = 7 if match[2] == "SUN" and low > field.low == 0 and field.names else field.value(match[2])
    if low > high:
        return _wrapped(field, low, high, step)
    if low == high:
        return str(low - field.shift)
    return f"{low - field.shift}-{high - field.shift}" + (f"/{step}" if step > 1 else "")


def _wrapped(field: _Field, low: int, high: int, step: int) -> str:
    if field.syntax is Syntax.UNIX:
        hint = f"write `{low}-{field.high},{field.low}-{high}`"
        raise _LineError(f"{field.name} range `{low}-{high}` runs backwards", hint=hint)
    values = [*range(low, field.high + 1), *range(field.low, high + 1)]
    return ",".join(str(value - field.shift) for value in values[::step])
