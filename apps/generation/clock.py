"""Moments as people and browsers read them. The time itself comes from the store's clock."""

from datetime import UTC, datetime


def iso(moment_ms: int) -> str:
    """A moment in milliseconds since the epoch: `2026-01-17T16:30:00.000Z`."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_iso(text: str) -> int:
    """The moment in milliseconds since the epoch that `iso` has written."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def iso_or_none(moment_ms: int | None) -> str | None:
    """The same, of one that may not have come."""
    return None if moment_ms is None else iso(moment_ms)
