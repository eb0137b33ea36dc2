"""What a consumer's `alert_queue` is told of a death."""

from __future__ import annotations

from typing import Any

import msgspec

from conveyor.model.ids import MessageId, show_id


class DeadLetterAlert(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a message in an `alert_queue`, written in the transaction in which another message died."""

    event: str = "message.dead_lettered"
    queue: str
    """Where it died."""
    dead_letter_queue: str | None = None
    """Where it lies now; None: it is deleted."""
    message_id: str
    """32 hex digits."""
    reason: str
    error: str | None = None
    """What the last attempt said."""
    attempts: int
    """Deliveries that counted."""
    dead_at: int
    """Milliseconds since 1970."""
    headers: dict[str, Any] | None = None
    """The dead message's own."""


def write_alert(
    queue: str, dead_letter_queue: str | None, message_id: MessageId, *, reason: str, error: str | None, attempts: int,
    dead_at: int, headers: bytes | None,
) -> bytes:  # fmt: skip
    """As JSON; `headers` are the dead message's, as they are kept."""
    alert = DeadLetterAlert(
        queue=queue, dead_letter_queue=dead_letter_queue, message_id=show_id(message_id), reason=str(reason),
        error=error, attempts=attempts, dead_at=dead_at,
        headers=None if headers is None else msgspec.json.decode(headers),
    )  # fmt: skip
    return msgspec.json.encode(alert)
