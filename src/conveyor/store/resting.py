"""How far ahead a rest may end: of a queue or a key whose handler was rate limited, and of a key whose rate is spent.

One that ends later was written before the clock was set back. A sweep ends it, else what waits would wait until that
time has come again.
"""

from __future__ import annotations

from typing import Final

import msgspec

from conveyor.model.duration import SECOND_MS
from conveyor.model.message import DELAY_MS_MAX
from conveyor.model.rate import Rate, Window

_MARGIN_MS: Final = 5 * SECOND_MS
"""Others may have written since the sweep looked at the clock."""


class Latest(msgspec.Struct, frozen=True):
    """What can have been written by now ends no later."""

    rest: int
    """Of a rest that a handler asked for."""
    opening: int
    """Of a key's rate."""
    window: int
    """Of what a key's rate remembers (`Window.ends_at`)."""


def latest_of(key_rate: Rate | None, now: int) -> Latest:
    """`key_rate` is the consumer's, if it has one."""
    ahead = now + _MARGIN_MS
    rest = ahead + DELAY_MS_MAX
    if key_rate is None:
        return Latest(rest, rest, rest)
    window = Window(key_rate)
    window.take(ahead, key_rate.count)
    return Latest(rest, window.opens_at(ahead, key_rate.count), window.ends_at)
