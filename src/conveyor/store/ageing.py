"""Which of the messages that wait behind others by priority are lifted: the rule that all stores follow.

A message that has waited for the consumer's `ageing`, and is older than all that goes before it, is lifted to the
highest level at which anything waits. It is then the first there, since within a level the longest ready goes first;
and as long as one that was lifted waits, none that is younger follows. So nothing starves, and what is urgent waits for
`LIFTED_MAX` others a second at most. It is part of the sweep, so that no claim pays for it.
"""

from __future__ import annotations

from typing import Final

from conveyor.model.settings import ConsumerSettings

LIFTED_MAX: Final = 10
"""In one sweep of a queue."""
_DEFAULT: Final = ConsumerSettings()


def lifts_before(consumer: ConsumerSettings | None, now: int, top_ready_at: int) -> int | None:
    """Those that were ready before this moment are lifted, where the oldest of the highest level has been ready since
    `top_ready_at`. None: nothing is lifted here. Where keys are gated, the keys say who goes."""
    settings = consumer or _DEFAULT
    if settings.ageing_ms is None or settings.gates_keys:
        return None
    return min(now - settings.ageing_ms, top_ready_at)
