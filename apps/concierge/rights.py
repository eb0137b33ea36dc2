"""Who may do what: one table, which endpoints name and tests walk through."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from .words import Role


class Right(StrEnum):
    """What somebody may do."""

    LIST = "message.list"
    """That messages are there, and how they stand; nothing of what they say, nor to whom."""
    READ = "message.read"
    """Recipient, subject and content."""
    COMPOSE = "message.compose"
    """Write and edit drafts, hand them in for review, take one's own back."""
    REVIEW = "message.review"
    """Approve and reject what others wrote."""
    SEND = "message.send"
    """Without a review; schedule and cancel whatever is there; enqueue jobs."""
    WATCH = "queue.watch"
    EXPORT = "export"
    CLEAN = "cleanup"
    AUDIT = "audit"
    PEOPLE = "people"


_ALL: Final = frozenset(Right)
RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    Role.ADMIN: _ALL,
    Role.CLINICIAN: frozenset({Right.LIST, Right.READ, Right.COMPOSE, Right.REVIEW, Right.SEND, Right.WATCH}),
    Role.ASSISTANT: frozenset({Right.LIST, Right.READ, Right.COMPOSE}),
    Role.AUDITOR: frozenset({Right.LIST, Right.WATCH, Right.EXPORT, Right.AUDIT}),
}
