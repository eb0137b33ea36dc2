"""Leases with an end of their own, which nobody renews: what may not begin any more, and what must be told."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from conveyor.model.message import Lease


def has_ended(leases: Sequence[Lease], now_ms: int) -> bool:
    """Whether these messages, which came by one claim, are somebody else's by now."""
    ends_at = leases[0].ends_at
    return ends_at is not None and now_ms >= ends_at


def forget_ended(ready: deque[tuple[Sequence[Lease], int]], now_ms: int) -> int:
    """Take away what waited for too long to begin; how many messages. There is nothing left to give back."""
    ended = [portion for portion in ready if has_ended(portion[0], now_ms)]
    if ended:
        kept = [portion for portion in ready if not has_ended(portion[0], now_ms)]
        ready.clear()
        ready.extend(kept)
    return sum(len(leases) for leases, _ in ended)
