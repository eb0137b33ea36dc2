"""A cron expression as a value: what was configured, when it ticks next, when it last ticked. Pure; no clock is read.

Moments come in and go out as epoch milliseconds, UTC. `dialect` reads the text, `cronsim` walks the wall-clock minutes
it names, and this room lays them over the time zone by Debian cron's rule, written down in docs/concepts/cron.md.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import Final, Self, cast
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field
from cronsim.explain import Day, Expression

from conveyor.model.beside import CronSyntaxError
from conveyor.model.cron_dialect import TEXT_CHARS_MAX, Line, Syntax, read

__all__ = ["SEARCH_YEARS_MAX", "TEXT_CHARS_MAX", "CronExpression", "Syntax"]

SEARCH_YEARS_MAX: Final = 5
TIMEZONE_CHARS_MAX: Final = 64

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_REACH: Final = timedelta(days=366 * SEARCH_YEARS_MAX)
# Python's calendar spans the years 1-9999; this range leaves the search room at both ends.
_MOMENTS_MS: Final = range(-62_000_000_000_000, 253_000_000_000_000)
# These follow the machine or count leap seconds, so the same schedule would tick at other moments elsewhere.
_ZONES_REFUSED: Final = ("localtime", "posixrules", "right/", "posix/", "Factory")
# From here every pairing of weekday and date comes round within 28 years; a line that is silent for longer is never.
_PROBE_FROM: Final = datetime(2000, 1, 1)
_PROBE_YEARS: Final = 30
_ORDINALS: Final = MappingProxyType({"1": "st", "2": "nd", "3": "rd"})


@dataclass(frozen=True, slots=True)
class CronExpression:
    """When a schedule ticks.

    >>> CronExpression.parse("30 16 * * *", timezone="Europe/Berlin").next_after(0)
    55800000
    """

    text: str
    syntax: Syntax = Syntax.UNIX
    timezone: str = "UTC"
    _wall: _WallCalendar = field(init=False, repr=False, compare=False)
    _zone: tzinfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_wall", _find_wall(self.text, read(self.text, self.syntax)))
        object.__setattr__(self, "_zone", _find_zone(self.text, self.syntax, self.timezone))

    @classmethod
    def parse(cls, text: str, *, syntax: Syntax = Syntax.UNIX, timezone: str = "UTC") -> Self:
        return cls(text, Syntax(syntax), timezone)

    def next_after(self, moment_ms: int) -> int | None:
        """The first tick strictly after; None when there is none within five years, which is not the same as never."""
        if moment_ms not in _MOMENTS_MS:
            return None
        moment = _from_ms(moment_ms)
        tick = self._elapsed_after(moment) if self._wall.is_wildcard else self._fixed_after(moment)
        return _to_ms(tick) if tick is not None and tick - moment <= _REACH else None

    def last_at_or_before(self, moment_ms: int) -> int | None:
        """The newest tick that is not in the future of the moment; None when five years hold none."""
        if moment_ms not in _MOMENTS_MS:
            return None
        moment = _from_ms(moment_ms)
        tick = self._elapsed_before(moment) if self._wall.is_wildcard else self._fixed_before(moment)
        return _to_ms(tick) if tick is not None and moment - tick <= _REACH else None

    def newest_ticks_between(self, after_ms: int, until_ms: int, *, limit: int) -> list[int]:
        """The newest `limit` ticks with after < tick <= until, oldest first: what a scheduler missed while away."""
        ticks: list[int] = []
        tick = self.last_at_or_before(until_ms)
        while tick is not None and tick > after_ms and len(ticks) < limit:
            ticks.append(tick)
            tick = self.last_at_or_before(tick - 1)
        return ticks[::-1]

    def explain(self) -> str:
        """In plain English, with the zone: `At 16:30 every day (Europe/Berlin)`."""
        return f"{self._wall.explain()} ({self.timezone})"

    def _fixed_after(self, moment: datetime) -> datetime | None:
        """A fixed wall time runs once a day: right after a gap that swallowed it, in the first pass of a fold."""
        ticks = (self._instant(wall) for wall in self._wall.after(_wall_time(moment, self._zone)))
        return next((tick for tick in ticks if tick > moment), None)

    def _fixed_before(self, moment: datetime) -> datetime | None:
        local = moment.astimezone(self._zone)
        # In a fold's second pass, wall times ahead of this one have already run in the first.
        rewound = (local.replace(fold=0).utcoffset() or timedelta()) - (local.utcoffset() or timedelta())
        start = _wall_time(moment, self._zone) + rewound + _SECOND
        ticks = (self._instant(wall) for wall in self._wall.before(start))
        return next((tick for tick in ticks if tick <= moment), None)

    def _elapsed_after(self, moment: datetime) -> datetime | None:
        """A wildcard ticks at every instant whose wall time matches: in both passes of a fold, never inside a gap."""
        start = moment + _SECOND
        while (wall := next(iter(self._wall.after(_wall_time(start, self._zone) - _SECOND)), None)) is not None:
            tick = wall.replace(tzinfo=UTC) - _offset(start, self._zone)
            change = next(_offset_changes(self._zone, start, tick), None)
            if change is None:
                return tick
            start = change
        return None

    def _elapsed_before(self, moment: datetime) -> datetime | None:
        while (wall := next(iter(self._wall.before(_wall_time(moment, self._zone) + _SECOND)), None)) is not None:
            tick = wall.replace(tzinfo=UTC) - _offset(moment, self._zone)
            changes = list(_offset_changes(self._zone, tick, moment))
            if not changes:
                return tick
            moment = changes[-1] - _SECOND
        return None

    def _instant(self, wall: datetime) -> datetime:
        local = wall.replace(tzinfo=self._zone, fold=0)
        instant = local.astimezone(UTC)
        if _wall_time(instant, self._zone) == wall:
            return instant
        # The wall time falls into a gap: the first moment after it is where the offset changes.
        earlier = local.replace(fold=1).astimezone(UTC)
        return next(_offset_changes(self._zone, earlier, instant), instant)


class _WallCalendar(CronSim):
    """The wall-clock minutes a line names, walked either way from a naive moment, for a bounded number of years."""

    def __init__(self, line: Line) -> None:
        # cronsim looks at the days' first sign and refuses days no month has, so month days of our own need a stand-in.
        stand_in = "1" if line.month_days and not line.day_of_month.startswith("*") else line.day_of_month
        super().__init__(f"{line.minute} {line.hour} {stand_in} {line.month} {line.day_of_week}", _PROBE_FROM)
        self.line = line
        if line.month_days:
            self.days = cast(set[int], Field.DAY.parse(line.day_of_month)) if line.day_of_month else set()
        self.years = range(0)

    @property
    def is_wildcard(self) -> bool:
        """Debian's test for lines that go by elapsed time: minute or hour begins with a star."""
        return self.line.minute.startswith("*") or self.line.hour.startswith("*")

    def after(self, moment: datetime, *, years: int = SEARCH_YEARS_MAX) -> Iterator[datetime]:
        return self._walk(moment, direction=1, years=years)

    def before(self, moment: datetime) -> Iterator[datetime]:
        return self._walk(moment, direction=-1, years=SEARCH_YEARS_MAX)

    def _walk(self, moment: datetime, *, direction: int, years: int) -> Iterator[datetime]:
        # A copy, because cronsim keeps its place in itself and one expression serves many callers.
        walk = copy.copy(self)
        walk.dt, walk.tick_direction = moment, direction
        walk.years = range(moment.year - years, moment.year + years + 1)
        return walk

    def match_day(self, d: date) -> bool:
        if d.year not in self.years:
            raise StopIteration
        return super().match_day(d)

    def match_dom(self, d: date) -> bool:
        return super().match_dom(d) or any(day.matches(d) for day in self.line.month_days)

    def explain(self) -> str:
        said = Expression(list(self.parts))
        if self.line.month_days:
            said.day = _SpokenDays(self.line)
        # cronsim says 22th.
        return re.sub(r"(?<!1)([123])th\b", lambda match: match[1] + _ORDINALS[match[1]], said.explain())


class _SpokenDays(Day):
    """The day-of-month field in words, when it holds days cronsim has no words for."""

    def __init__(self, line: Line) -> None:
        super().__init__(line.day_of_month or "1")
        self.line, self.single_value, self.star = line, None, False

    def format(self) -> str:
        plain = [super().format()] if self.line.day_of_month else []
        return " and ".join([*plain, *map(str, self.line.month_days)])


def _find_wall(text: str, line: Line) -> _WallCalendar:
    try:
        wall = _WallCalendar(line)
        next(iter(wall.after(_PROBE_FROM, years=_PROBE_YEARS)))
    except (CronSimError, StopIteration):
        raise CronSyntaxError(text, "no date ever matches it", hint="no such month has such a day") from None
    return wall


def _from_ms(moment_ms: int) -> datetime:
    # Ticks are whole seconds, so the part of a second can go either way without passing one.
    return _EPOCH + timedelta(seconds=moment_ms // 1000)


def _to_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _SECOND * 1000


def _wall_time(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _offset_changes(zone: tzinfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """The instants, after < instant <= until, at which the zone's offset changes; two never share a day."""
    before = _offset(after, zone)
    while zone is not UTC and after < until:
        day_end = min(after + _DAY, until)
        offset = _offset(day_end, zone)
        if offset != before:
            low, high = after, day_end
            while high - low > _SECOND:
                middle = low + (high - low) // _SECOND // 2 * _SECOND
                low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
            yield high
        after, before = day_end, offset


def _find_zone(text: str, syntax: Syntax, timezone: str) -> tzinfo:
    if timezone == "UTC":
        return UTC
    if syntax is Syntax.CLOUDFLARE:
        problem = f"Cloudflare's syntax runs in UTC only, not in `{timezone[:TIMEZONE_CHARS_MAX]}`"
        raise CronSyntaxError(text, problem, hint='use timezone "UTC", or syntax "unix"')
    try:
        if len(timezone) > TIMEZONE_CHARS_MAX or timezone.startswith(_ZONES_REFUSED):
            raise ValueError(timezone)
        return ZoneInfo(timezone)
    # zoneinfo raises KeyError, ValueError or, for a folder's name, OSError.
    except (KeyError, ValueError, OSError):
        problem = f"timezone `{timezone[:TIMEZONE_CHARS_MAX]}` is not known"
        raise CronSyntaxError(text, problem, hint="use an IANA name such as `Europe/Berlin`") from None
