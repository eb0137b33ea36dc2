"""What a database must promise of the reports of running jobs, and what follows for each from their words alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from conveyor.model.ids import MessageId
from conveyor.model.report import CUT_MARK, LOG_BYTES_MAX, LOG_LINES_MAX, OUTPUT_BYTES_MAX, Kind, Report, Word

TRIM_ROWS: Final = 200
"""Lines of a log that are looked at in one go, to see whether they go."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of all that a job has said: its progress, and how much there is of the rest."""

    id: MessageId
    last_number: int = 0
    log_lines: int = 0
    log_bytes: int = 0
    output_attempt: int = 0
    """Whose output is kept."""
    output_bytes: int = 0
    """More than `OUTPUT_BYTES_MAX`: it was cut."""
    progress: Word | None = None
    """The last one."""

    @property
    def is_over(self) -> bool:
        """Whether lines of its log have to go."""
        return self.log_lines > LOG_LINES_MAX or self.log_bytes > LOG_BYTES_MAX


class ReportStore(Protocol):
    """What running jobs say of themselves. The rules of `conveyor.store.protocol` hold here too."""

    async def write(self, owner: int, reports: Sequence[Report]) -> Sequence[MessageId]:
        """Number the words and keep them. Those whose leases `owner` does not have any more: nothing of theirs is
        kept. Whoever is subscribed to the store is told `bell_of` the job's queue."""
        ...

    async def find(self, id: MessageId) -> Said | None:
        """None: it has said nothing."""
        ...

    async def read(self, id: MessageId, *, after: int, limit: int) -> Sequence[Word]:
        """Lines of its log and pieces of its output, by number, from the one after `after` on."""
        ...


def bell_of(queue: str) -> str:
    """What is rung when a job of the queue has said something; no queue has such a name."""
    return f"reports of {queue}"


def take_in(said: Said, words: Iterable[Word]) -> tuple[Said, list[Word], bool]:
    """What is kept now, the lines to be added, and whether former output goes: a new attempt's takes its place."""
    lines: list[Word] = []
    number, drops_output = said.last_number, False
    progress, log_lines, log_bytes = said.progress, said.log_lines, said.log_bytes
    output_attempt, output_bytes = said.output_attempt, said.output_bytes
    for word in words:
        number += 1
        match word.kind:
            case Kind.PROGRESS:
                progress = replace(word, number=number)
                continue
            case Kind.LOG:
                log_lines, log_bytes = log_lines + 1, log_bytes + len(word.body)
                lines.append(replace(word, number=number))
                continue
            case Kind.OUTPUT:
                pass
        if word.attempt != output_attempt:
            drops_output, output_attempt, output_bytes = output_bytes > 0 or drops_output, word.attempt, 0
            lines = [each for each in lines if each.kind is not Kind.OUTPUT]
        left = OUTPUT_BYTES_MAX - output_bytes
        output_bytes += len(word.body)
        if left < 0:  # its end stands there already
            continue
        if len(word.body) <= left:
            lines.append(replace(word, number=number))
            continue
        lines.append(replace(word, number=number, body=_cut(word, left) + CUT_MARK))
    return (
        Said(
            id=said.id, last_number=number, log_lines=log_lines, log_bytes=log_bytes, output_attempt=output_attempt,
            output_bytes=output_bytes, progress=progress,
        ),
        lines,
        drops_output,
    )  # fmt: skip


def as_millionths(progress: Word) -> int:
    """How far it is, as databases keep it: a move carries whole numbers."""
    return round((progress.fraction or 0.0) * 1_000_000)


def _cut(word: Word, size: int) -> bytes:
    """The part that fits, without half a sign."""
    part = word.body[:size]
    return part.decode(errors="ignore").encode() if word.is_text else part


def trim(said: Said, oldest: Iterable[tuple[int, int]]) -> tuple[Said, int]:
    """Which of the oldest lines of its log, given by number and size, go: what is left, and the last number that
    goes."""
    lines, size, last = said.log_lines, said.log_bytes, 0
    for number, length in oldest:
        if lines <= LOG_LINES_MAX and size <= LOG_BYTES_MAX:
            break
        lines, size, last = lines - 1, size - length, number
    return replace(said, log_lines=lines, log_bytes=size), last
