"""The state machine of spec/message.md as one table; stores, docs and random tests are held to it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class State(StrEnum):
    """Where a message is. READY with a later `ready_at` is delayed."""

    NONE = "none"
    READY = "ready"
    LEASED = "leased"
    DONE = "done"
    GONE = "gone"


class Step(StrEnum):
    """What may happen to a message; the T numbers are those of the specification."""

    SEND = "T1 send"
    CLAIM = "T2 claim"
    ACK = "T3 ack"
    LATE_ACK = "T3' late ack"
    RETRY = "T4 retry"
    EXPIRY = "T5 expiry"
    DEAD_LETTER = "T6 dead-letter"
    DROP = "T6 dead-letter, no queue for it"
    EXTEND = "T7 extend"
    RELEASE = "T8 release"
    PURGE = "T9 purge"
    EXPIRE = "T10 expire"
    REDRIVE = "T12 redrive"


STEPS: Final[Mapping[tuple[State, Step], State]] = MappingProxyType(
    {
        (State.NONE, Step.SEND): State.READY,
        (State.READY, Step.CLAIM): State.LEASED,
        (State.LEASED, Step.ACK): State.DONE,
        (State.READY, Step.LATE_ACK): State.DONE,
        (State.LEASED, Step.LATE_ACK): State.DONE,
        (State.LEASED, Step.RETRY): State.READY,
        (State.LEASED, Step.EXPIRY): State.READY,
        (State.LEASED, Step.DEAD_LETTER): State.READY,  # in the dead letter queue
        (State.READY, Step.DEAD_LETTER): State.READY,  # an expired message
        (State.LEASED, Step.DROP): State.GONE,
        (State.LEASED, Step.EXTEND): State.LEASED,
        (State.LEASED, Step.RELEASE): State.READY,
        (State.READY, Step.PURGE): State.GONE,
        (State.LEASED, Step.PURGE): State.GONE,
        (State.READY, Step.EXPIRE): State.GONE,
        (State.READY, Step.REDRIVE): State.READY,  # in the queue of origin
    }
)
