"""Durations as people write them (`90`, `1.5`, `timedelta(minutes=5)`, `"5m"`), read once at the door into
milliseconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Final, TypeAlias

from conveyor.model.errors import InvalidDurationError

Duration: TypeAlias = timedelta | float | int | str

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

_UNITS_MS: Final = {"ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_TEXT: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s?(ms|s|m|h|d)")


def read_duration_ms(value: Duration, *, name: str, least_ms: int = 0, most_ms: int) -> int:
    """Milliseconds in `value`; `InvalidDurationError` if it is no duration or lies outside the bounds."""
    milliseconds = _milliseconds(value, name)
    if not least_ms <= milliseconds <= most_ms:
        raise InvalidDurationError(name, value, f"must lie between {least_ms / 1000:g} s and {most_ms / 1000:g} s")
    return round(milliseconds)


def _milliseconds(value: Duration, name: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds() * 1000
    if isinstance(value, str):
        match = _TEXT.fullmatch(value.strip())
        if match is None:
            raise InvalidDurationError(name, value, "is not a duration")
        return float(match[1]) * _UNITS_MS[match[2]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidDurationError(name, value, "is not a duration")
    if not math.isfinite(value):
        raise InvalidDurationError(name, value, "is not a finite number")
    return value * 1000
