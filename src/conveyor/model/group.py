"""Groups: messages that belong together, counted as they end. A chain is a group whose members follow each other."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, TypeAlias

import msgspec

from conveyor.model.duration import DAY_MS

GROUP_HEADER: Final = "conveyor-group"
"""The header of a message that is a member: the group's id."""
GROUP_MARK: Final = GROUP_HEADER.encode()
"""What the headers of no other message hold."""
MEMBERS_MAX: Final = 1_000_000
DEADLINE_MS_MAX: Final = 365 * DAY_MS
GROUP_MS: Final = 30 * DAY_MS
"""How long a group is kept after its end."""

OnFailure: TypeAlias = Literal["cancel", "continue"]
"""What becomes of the others once a member has failed."""


class GroupState(StrEnum):
    """How a group stands."""

    STARTING = "starting"
    """It is being written down; nothing of it runs. Gone after a while, if nobody finishes that."""
    RUNNING = "running"
    CANCELLING = "cancelling"
    """Somebody wants it to end: what waits is taken out, what runs is told."""
    FAILING = "failing"
    """The same, since a member has failed."""
    SUCCEEDED = "succeeded"
    """All members have."""
    FAILED = "failed"
    """All have ended, some by failing."""
    CANCELLED = "cancelled"
    """All have ended, some by being cancelled, none by failing; or somebody has cancelled the group."""
    EXPIRED = "expired"
    """Its deadline came first."""


ENDED: Final = frozenset({GroupState.SUCCEEDED, GroupState.FAILED, GroupState.CANCELLED, GroupState.EXPIRED})


class MemberState(StrEnum):
    """How a member stands, as far as its group must know."""

    WAITING = "waiting"
    """For those that it comes after."""
    READY = "ready"
    """To be sent."""
    SENT = "sent"
    ENDING = "ending"
    """Its group is to end, and it runs."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Nobody will finish it: cancelled, purged, thrown away, never sent."""


class GroupResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a group: what its `on_complete` is given."""

    id: str
    """32 hex digits."""
    name: str
    state: GroupState
    total: int
    succeeded: int
    failed: int
    cancelled: int

    @property
    def unfinished(self) -> int:
        """Members that had not ended when the deadline came."""
        return self.total - self.succeeded - self.failed - self.cancelled
