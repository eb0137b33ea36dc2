"""What becomes of message `n` is a question of its last two digits, so that its sender and its handler agree.

In a hundred: 5 are delayed, 5 are retried once, 2 have a dedupe key and are sent twice, 2 are ordered by key, 1 is
rejected (and later sent back, or cleared), 5 are jobs with results, 10 go by lone sends, and 70 in batches.
"""

from __future__ import annotations

from enum import Enum
from math import pi, sin
from typing import Final

HUNDRED: Final = 100
KEYS: Final = 1_000
EBB: Final = 8_000
FLOW: Final = 50_000
TIDES: Final = 10
DELAYED_MOST: Final = 10


class Fate(Enum):
    """What a message is there for."""

    DELAYED = 5
    RETRIED = 10
    DEDUPED = 12
    ORDERED = 14
    REJECTED = 15
    JOB = 20
    ALONE = 30
    PLAIN = 100


_FATES: Final = [next(fate for fate in Fate if digits < fate.value) for digits in range(HUNDRED)]


def fate_of(number: int) -> Fate:
    return _FATES[number % HUNDRED]


def delay_of(number: int) -> str:
    """Of a delayed or a retried message."""
    return f"{1 + number // HUNDRED % DELAYED_MOST}s"


def key_of(number: int) -> str:
    """Of an ordered message: each of the keys in turn."""
    return f"customer-{number // HUNDRED * 2 % KEYS + number % 2}"


def ahead_of(share: float, messages: int) -> int:
    """How many wait when that share of the run is over: it ebbs and flows alike in its first tenth and in its last."""
    most, least = min(FLOW, messages // 20), min(EBB, messages // 100)
    return least + round((most - least) * sin(pi * TIDES * share) ** 2)
