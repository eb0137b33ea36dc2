"""The message that everybody sends: about 200 bytes of JSON, numbered so that its handling can be noted."""

from __future__ import annotations

TEXT = "Your order left the depot this morning and should be with you before the evening."


def payload(number: int) -> dict[str, object]:
    """The body of message `number`."""
    return {
        "number": number,
        "kind": "order.shipped",
        "to": "somebody@example.test",
        "attempt": 1,
        "tags": ["mail", "customer"],
        "text": TEXT,
    }
