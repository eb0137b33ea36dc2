"""Until when: what is left of an attempt's time, and of its job's."""

from __future__ import annotations

from msgspec.structs import replace

from conveyor.model.job import DEADLINE_HEADER
from conveyor.model.message import Lease
from conveyor.model.verdict import Action, DeadReason, Settlement
from conveyor.store.jobs import read_headers

_MARK = DEADLINE_HEADER.encode()


def deadline_of(lease: Lease) -> int | None:
    """The moment by which this message's job must have ended; None: there is none."""
    if lease.headers is None or _MARK not in lease.headers:
        return None
    after_ms = read_headers(lease.headers).get(DEADLINE_HEADER)
    return lease.sent_at + after_ms if isinstance(after_ms, int) else None


def meet_deadline(lease: Lease, settlement: Settlement, now: int) -> Settlement:
    """Where the next attempt would begin past the deadline, this was the last one."""
    deadline = deadline_of(lease)
    if deadline is None or settlement.action not in (Action.RETRY, Action.RELEASE):
        return settlement
    if now + (settlement.delay_ms or 0) < deadline:
        return settlement
    if settlement.parks is not None:  # what it waits for may come before
        return replace(settlement, delay_ms=max(0, deadline - now))
    error = say_late(settlement.error or settlement.reason)
    return replace(
        settlement, action=Action.REJECT, delay_ms=None, reason=DeadReason.DEADLINE, error=error, throttles=False,
        rests_key=False,
    )  # fmt: skip


def say_late(error: str | None) -> str:
    """What the last attempt came to, for people."""
    return f"its deadline has come: {error}" if error else "its deadline has come"
