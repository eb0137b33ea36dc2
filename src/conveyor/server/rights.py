"""What a token may do, and where: five rights, each for all queues or for those of some patterns."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

import msgspec


class Right(StrEnum):
    """The scopes of a token."""

    SEND = "send"
    CONSUME = "consume"
    READ = "read"
    MANAGE = "manage"
    """Holds READ."""
    ADMIN = "admin"
    """Holds all others, and tokens and the audit trail."""


_HOLDS: Final = {Right.ADMIN: frozenset(Right), Right.MANAGE: frozenset({Right.MANAGE, Right.READ})}


def held_by(rights: frozenset[Right]) -> frozenset[Right]:
    """These, and those that they hold."""
    return frozenset(held for right in rights for held in _HOLDS.get(right, (right,)))


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever asks."""

    token_id: str | None
    """None: nobody has said who it is."""
    name: str
    rights: frozenset[Right] = frozenset()
    """As `held_by` gives them."""
    queues: tuple[str, ...] | None = None
    """Patterns as of `fnmatch`; None is all, and the rest of the store."""
    address: str = ""
    job: str | None = None
    """The only thing that this caller may watch, and all that it may do: an end user."""
    expires_at: int | None = None
    """Of an end user's token."""

    @property
    def via(self) -> str:
        """How it comes, for the audit trail."""
        return "http"

    def may(self, right: Right, queue: str | None = None) -> bool:
        """With a queue: there. Without: in the whole store, which no patterns cover."""
        if right not in self.rights:
            return False
        if self.queues is None:
            return True
        return queue is not None and any(fnmatchcase(queue, pattern) for pattern in self.queues)

    def may_watch(self, job: str) -> bool:
        """What this job says of itself."""
        return self.job == job if self.job is not None else self.may(Right.READ)


NOBODY: Final = Caller(token_id=None, name="nobody")
