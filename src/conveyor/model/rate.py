"""Rates as people write them (`"50/m"`, `"50/10s"`), and the sliding window that tells whether one is used up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from conveyor.model.duration import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from conveyor.model.errors import InvalidSettingError

RATE_COUNT_MAX: Final = 1_000_000
RATE_PERIOD_MS_MAX: Final = 31 * DAY_MS
BUCKETS: Final = 50
"""A window remembers a period in so many parts: an entry counts for up to a fiftieth of it longer than it must."""

_UNITS_MS: Final = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_TEXT: Final = re.compile(r"(\d{1,7}) ?/ ?(\d{0,7})(s|m|h|d)")


class Rate(msgspec.Struct, frozen=True):
    """At most `count` units of cost within any `period_ms`."""

    count: int
    period_ms: int

    def check(self, name: str) -> None:
        """`InvalidSettingError` if it is out of bounds."""
        if not 1 <= self.count <= RATE_COUNT_MAX:
            raise InvalidSettingError(name, str(self), f"must count from 1 to {RATE_COUNT_MAX:,}", hint=_HINT)
        if not SECOND_MS <= self.period_ms <= RATE_PERIOD_MS_MAX:
            raise InvalidSettingError(name, str(self), "must be of a period from 1 s to 31 d", hint=_HINT)

    def __str__(self) -> str:
        unit, unit_ms = next(
            (unit, each) for unit, each in reversed([("ms", 1), *_UNITS_MS.items()]) if self.period_ms % each == 0
        )
        number = self.period_ms // unit_ms
        return f"{self.count}/{'' if number == 1 else number}{unit}"


_HINT: Final = 'as in "50/m": units are s, m, h, d; "50/10s" is fifty in ten seconds'


def read_rate(value: str | None, *, name: str) -> Rate | None:
    """`InvalidSettingError` if the text is no rate."""
    if value is None:
        return None
    match = _TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise InvalidSettingError(name, value, "is not a rate", hint=_HINT)
    rate = Rate(int(match[1]), int(match[2] or 1) * _UNITS_MS[match[3]])
    rate.check(name)
    return rate


class Window:
    """What was leased of a rate within its last period.

    The period slides: entries are (time, amount), those of one bucket merged under the bucket's latest time, so that
    merging never forgets too early. One that lies more than a period ahead is from before the clock was set back, and
    counts no more: else nothing would go until its time has come again.
    """

    __slots__ = ("_entries", "rate")

    def __init__(self, rate: Rate, entries: Iterable[tuple[int, int]] = ()) -> None:
        self.rate = rate
        self._entries = list(entries)

    @classmethod
    def decode(cls, rate: Rate, text: str | None) -> Window:
        """From what `encode` gave; None is an empty window."""
        return cls(rate, _decode(text) if text else ())

    def encode(self) -> str:
        return msgspec.json.encode(self._entries).decode()

    def used(self, now: int) -> int:
        """Units that count now."""
        return sum(amount for moment, amount in self._entries if self._counts(moment, now))

    def _counts(self, moment: int, now: int) -> bool:
        return moment - self.rate.period_ms <= now < moment + self.rate.period_ms

    def fits(self, now: int, cost: int, *, besides: int = 0) -> bool:
        """Whether there is room for `cost` on top of `besides`. What costs more than the whole rate takes an empty
        window."""
        used = self.used(now) + besides
        return used + cost <= self.rate.count or used == 0

    def opens_at(self, now: int, cost: int, *, besides: int = 0) -> int:
        """When `cost` will fit, if nothing else is taken meanwhile but `besides` now."""
        window = Window(self.rate, self._entries)
        if besides:
            window.take(now, besides)
        moments = (moment + self.rate.period_ms for moment, _ in window._entries)
        return next(moment for moment in (now, *moments) if window.fits(max(now, moment), cost))

    def take(self, now: int, amount: int) -> None:
        """Note that so much is leased now."""
        width = max(1, self.rate.period_ms // BUCKETS)
        moment = (now // width + 1) * width - 1
        kept = [each for each in self._entries if self._counts(each[0], now)]
        if kept and kept[-1][0] >= moment:
            moment, before = kept.pop()
            amount += before
        self._entries = [*kept, (moment, amount)]

    @property
    def ends_at(self) -> int:
        """From then on it is empty; rounded up, so that it seldom changes."""
        step = max(MINUTE_MS, self.rate.period_ms)
        last = self._entries[-1][0] if self._entries else 0
        return ((last + self.rate.period_ms) // step + 1) * step


_decode: Final = msgspec.json.Decoder(list[tuple[int, int]]).decode
