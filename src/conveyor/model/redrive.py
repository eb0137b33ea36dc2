"""How often a message was sent back from a dead letter queue: conveyor's own header, written where that is done. A
redelivery after a crash leaves it as it is, so that a handler can tell the two apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

REDRIVES_HEADER: Final = "conveyor-redrives"
_MARK: Final = REDRIVES_HEADER.encode()


def read_redrives(headers: bytes | None) -> int:
    """0 for a message that was never sent back."""
    if headers is None or _MARK not in headers:
        return 0
    return _count(_read(headers) or {})


def add_redrive(headers: bytes | None) -> bytes | None:
    """The headers of a message that is being sent back. What is no JSON object stays as it is."""
    found: Mapping[str, Any] | None = {} if headers is None else _read(headers)
    if found is None:
        return headers
    return msgspec.json.encode({**found, REDRIVES_HEADER: _count(found) + 1})


def _read(headers: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(headers, type=dict[str, Any])
    except msgspec.DecodeError:  # others may have written them
        return None


def _count(headers: Mapping[str, Any]) -> int:
    found = headers.get(REDRIVES_HEADER)
    return found if isinstance(found, int) and found > 0 else 0
