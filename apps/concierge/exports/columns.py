"""What a file of rows consists of: named columns of three kinds, and rows as the database gives them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

Value = str | int | None
Row = tuple[Value, ...]


class Kind(StrEnum):
    """How a value is to be read."""

    TEXT = "text"
    NUMBER = "number"
    MOMENT = "moment"
    """Milliseconds since the epoch; in text `2026-01-17T16:30:00.000Z`."""


class Column(NamedTuple):
    """One of them."""

    name: str
    kind: Kind


class Encoder(Protocol):
    """Rows into the bytes of a file, as they come. Whatever was added lies in what is returned, or waits in memory for
    the next call: never more than some ten thousand rows."""

    def begin(self) -> bytes: ...

    def add(self, rows: Sequence[Row]) -> bytes:
        """One row at least."""
        ...

    def end(self) -> bytes: ...


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_KEPT: Final = 4_096


class Moments:
    """Milliseconds as text. Rows that follow each other lie close in time, so the text of a second is kept."""

    def __init__(self) -> None:
        self._seconds: dict[int, str] = {}

    def text(self, moment_ms: int) -> str:
        second, rest = divmod(moment_ms, 1_000)
        known = self._seconds.get(second)
        if known is None:
            if len(self._seconds) >= _SECONDS_KEPT:
                self._seconds.clear()
            known = self._seconds[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{known}.{rest:03}Z"


def read_moment(text: str) -> int:
    """Milliseconds of what `Moments` wrote. `ValueError`."""
    since = datetime.fromisoformat(text) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000
