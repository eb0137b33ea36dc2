"""What one attempt has said and nobody has written down yet. Saying costs a few microseconds, in whatever thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from conveyor.model.job import JobRecord
from conveyor.model.message import Lease
from conveyor.model.report import LINE_CHARS_MAX, LOG_LINES_MAX, NOTE_CHARS_MAX, OUTPUT_BYTES_MAX, Kind, Report, Word

_WORDS_MAX: Final = 4 * LOG_LINES_MAX
"""Waiting; beyond they are thinned out."""


class Voice:
    """The reports of one attempt. `hear` is told when there is something to be written."""

    def __init__(
        self, record: JobRecord, lease: Lease, owner: int, now_ms: Callable[[], int], hear: Callable[[Voice], None]
    ) -> None:
        self.record = record
        self.owner = owner
        self._lease = lease
        self._now_ms = now_ms
        self._hear = hear
        self._lock = threading.Lock()
        self._words: list[Word] = []
        self._taken: list[Word] = []
        self._output_bytes = 0
        self._is_first = True
        self._is_closed = False

    def progress(self, fraction: float, note: str) -> None:
        fraction = round(min(1.0, max(0.0, fraction)), 6) if fraction == fraction else 0.0  # noqa: PLR0124  # NaN
        self._say(self._word(Kind.PROGRESS, _encode(note[:NOTE_CHARS_MAX]), fraction=fraction))

    def log(self, text: str, level: str) -> None:
        line = text if len(text) <= LINE_CHARS_MAX else f"{text[: LINE_CHARS_MAX - 1]}\N{HORIZONTAL ELLIPSIS}"
        self._say(self._word(Kind.LOG, _encode(line), level=level))

    def write(self, chunk: str | bytes) -> None:
        is_text = isinstance(chunk, str)
        body = _encode(chunk) if isinstance(chunk, str) else bytes(chunk)
        if body and self._output_bytes <= OUTPUT_BYTES_MAX:  # beyond, the store has marked its end
            self._output_bytes += len(body)
            self._say(self._word(Kind.OUTPUT, body, is_text=is_text))

    def _word(
        self, kind: Kind, body: bytes, *, is_text: bool = True, level: str | None = None, fraction: float | None = None
    ) -> Word:
        return Word(
            kind=kind, at=self._now_ms(), attempt=self.record.attempts, body=body, is_text=is_text, level=level,
            fraction=fraction,
        )  # fmt: skip

    def _say(self, word: Word) -> None:
        with self._lock:
            if self._is_closed:
                return
            is_news = not self._words
            self._words.append(word)
            if len(self._words) > _WORDS_MAX:
                self._words = _thin(self._words)
        if is_news:
            self._hear(self)

    # For whoever writes it down

    @property
    def is_settled(self) -> bool:
        """Nothing waits, and nothing is on its way."""
        return not self._words and not self._taken

    def take(self) -> Report | None:
        """What waits, if anything does; `written` or `give_back` follows."""
        with self._lock:
            self._words, words = [], _thin(self._words)
            self._taken = words
        if not words:
            return None
        lease = self._lease
        return Report(record=self.record, is_first=self._is_first, seq=lease.seq, claim=lease.claim, words=words)

    def written(self) -> None:
        self._is_first = False
        self._taken = []

    def give_back(self) -> None:
        """It could not be written: it waits again, before what was said since."""
        with self._lock:
            self._words, self._taken = [*self._taken, *self._words], []

    def close(self) -> None:
        """Nobody listens any more."""
        with self._lock:
            self._is_closed = True
            self._words, self._taken = [], []


def _thin(words: Sequence[Word]) -> list[Word]:
    """Pieces of output that follow each other in one; the last progress; of the log's lines as many as are kept."""
    surplus = sum(each.kind is Kind.LOG for each in words) - LOG_LINES_MAX
    outdated = sum(each.kind is Kind.PROGRESS for each in words) - 1
    runs: list[list[Word]] = []
    for each in words:
        if each.kind is Kind.LOG and surplus > 0:
            surplus -= 1
        elif each.kind is Kind.PROGRESS and outdated > 0:
            outdated -= 1
        elif runs and each.kind is Kind.OUTPUT and _go_on(runs[-1][0], each):
            runs[-1].append(each)
        else:
            runs.append([each])
    return [run[0] if len(run) == 1 else _joined(run) for run in runs]


def _go_on(one: Word, other: Word) -> bool:
    return one.kind is Kind.OUTPUT and one.is_text == other.is_text


def _joined(run: list[Word]) -> Word:
    return msgspec.structs.replace(run[0], body=b"".join(each.body for each in run))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")
