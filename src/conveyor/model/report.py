"""What a running job says of itself: how far it is, lines of its log, pieces of its output. The store numbers what a
job says from 1 on, so that a reader can go on after a number."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from conveyor.model.job import JobRecord

LOG_LINES_MAX: Final = 1_000
LOG_BYTES_MAX: Final = 1_000_000
"""Of a job's log; beyond either the oldest lines go."""
LINE_CHARS_MAX: Final = 4_000
NOTE_CHARS_MAX: Final = 400
OUTPUT_BYTES_MAX: Final = 1_000_000
"""Of an attempt's output; what would go beyond is left out, and `CUT_MARK` says so."""
CUT_MARK: Final = b"\n[cut: the output is longer than 1,000,000 bytes]\n"
LEVELS: Final = ("debug", "info", "warning", "error")


class Kind(StrEnum):
    """What was said."""

    PROGRESS = "progress"
    LOG = "log"
    OUTPUT = "output"


class Word(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that a job said."""

    kind: Kind
    at: int
    """Milliseconds of the store's clock."""
    attempt: int
    body: bytes
    """A log's line, a piece of output, or the note on the progress; text is UTF-8."""
    is_text: bool = True
    level: str | None = None
    """Of a log's line."""
    fraction: float | None = None
    """0 to 1."""
    number: int = 0
    """Given by the store."""


class Report(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one attempt has said since its last report."""

    record: JobRecord
    """The job, running."""
    is_first: bool
    """The first of its attempt."""
    seq: int
    claim: int
    """Its lease: a report of an attempt that has lost it is not kept."""
    words: Sequence[Word]
