"""Our own wire, `/api/v1`. Each room has a list of endpoints."""

from __future__ import annotations

from conveyor.server.endpoint import Endpoint


def endpoints() -> list[Endpoint]:
    """All of them, below `/api/v1`."""
    return []
