"""When a batch opens: how many of the ready messages one claim takes, and when it is worth asking for the rest."""

from __future__ import annotations

from collections.abc import Sequence


def round_to_batches(limit: int, batch_size: int) -> int:
    """`limit` down to whole batches, one at least."""
    return max(batch_size, limit - limit % batch_size)


def cut_batches(
    ready_ats: Sequence[int], *, limit_reached: bool, batch_size: int, timeout_ms: int, now: int
) -> tuple[int, int | None]:
    """How many of the candidates to take, counted from the first, and when the remainder opens.

    Full batches are taken; a remainder only once its oldest message has waited `timeout_ms`. Where the claim's limit
    was reached, more may be waiting behind it, so that nothing is a remainder.
    """
    whole = len(ready_ats) - len(ready_ats) % batch_size
    remainder = ready_ats[whole:]
    if not remainder:
        return whole, None
    opens_at = min(remainder) + timeout_ms
    if limit_reached or opens_at <= now:
        return len(ready_ats), None
    return whole, opens_at
