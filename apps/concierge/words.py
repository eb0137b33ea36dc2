"""The words of concierge: who people are, how messages and exports stand, and how urgent something is."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What somebody may do: see `rights.py`."""

    ADMIN = "admin"
    CLINICIAN = "clinician"
    ASSISTANT = "assistant"
    AUDITOR = "auditor"


class Channel(StrEnum):
    """How a message goes."""

    EMAIL = "email"
    SMS = "sms"


class State(StrEnum):
    """How a message stands."""

    DRAFT = "draft"
    REVIEW = "review"
    APPROVED = "approved"
    """By a reviewer; it is queued in the same moment."""
    QUEUED = "queued"
    """It goes as soon as it is its turn, or at its `send_at`."""
    SENDING = "sending"
    SENT = "sent"
    """A provider has taken it."""
    DELIVERED = "delivered"
    FAILED = "failed"
    BOUNCED = "bounced"
    """Taken, and sent back; or its address was refused for good."""
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Nothing changes it any more."""
        return self in FINAL


FINAL: Final = frozenset({State.DELIVERED, State.FAILED, State.BOUNCED, State.CANCELLED})
NEXT: Final[Mapping[State, frozenset[State]]] = {
    State.DRAFT: frozenset({State.REVIEW, State.QUEUED, State.CANCELLED}),
    State.REVIEW: frozenset({State.DRAFT, State.APPROVED, State.CANCELLED}),
    State.APPROVED: frozenset({State.QUEUED}),
    State.QUEUED: frozenset({State.SENDING, State.DRAFT, State.CANCELLED, State.FAILED}),
    State.SENDING: frozenset({State.SENT, State.QUEUED, State.FAILED, State.BOUNCED}),
    State.SENT: frozenset({State.DELIVERED, State.FAILED, State.BOUNCED, State.QUEUED}),
    State.DELIVERED: frozenset(),
    State.FAILED: frozenset(),
    State.BOUNCED: frozenset(),
    State.CANCELLED: frozenset(),
}
"""Which state may follow which; `messages.py` writes no other."""


class Urgency(StrEnum):
    """The document's priorities."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


DELAY_S: Final[Mapping[Urgency, int]] = {Urgency.HIGH: 0, Urgency.NORMAL: 1, Urgency.LOW: 5}


class Format(StrEnum):
    """What an export is written as; Parquet for the large ones."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class Target(StrEnum):
    """What a cleanup takes away."""

    AUDIT_LOGS = "audit_logs"
    MESSAGE_QUEUE = "message_queue"
    TEMP_FILES = "temp_files"


class ExportState(StrEnum):
    """How an export stands."""

    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Its file is gone."""


class Unknown(StrEnum):
    """What follows an attempt whose end nobody knows."""

    SAME = "same"
    """Another attempt with the same provider."""
    FAIL_OVER = "fail_over"
    """The next provider, at the price of a message that comes twice."""
