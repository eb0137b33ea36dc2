"""What a worker is to the consumers of its queues: the desk at which they ask for room, and hand over what they
have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Protocol, TypeAlias, TypeVar

from conveyor.model.message import Lease

C_contra = TypeVar("C_contra", contravariant=True)
"""A consumer."""

Portion: TypeAlias = tuple[Sequence[Lease], int]
"""What one call gets, and how many slots of its queue's `max_concurrency` it holds: 1, or 0 if the queue has no
limit."""


class Ran(Enum):
    """What became of a call that was to run alone."""

    TO_ITS_END = "to its end"
    NOT = "not"


class Desk(Protocol[C_contra]):
    """What a consumer needs of its worker."""

    def free_calls(self, consumer: C_contra) -> int:
        """Handler calls that could start now."""
        ...

    def fill_soon(self) -> None:
        """There are leases to be started."""
        ...

    def leases_of(self, queue: str) -> Iterator[Lease]:
        """Those of all calls that are running."""
        ...

    @property
    def suspects_max(self) -> int:
        """Crash suspects at once."""
        ...

    async def run_alone(self, consumer: C_contra, leases: Sequence[Lease]) -> Ran:
        """Run a crash suspect in a child of its own until its call is over."""
        ...
