"""CSV as RFC 4180 has it, for people who will open it in a spreadsheet: no text of ours becomes a formula there.

A spreadsheet computes a cell that begins with `=`, `+`, `-` or `@`, also behind blanks, and what it computes may reach
other cells and the network. Such text gets an apostrophe before it, which a spreadsheet takes for "this is text". So
does text that begins with an apostrophe itself: whoever reads the file by program takes one off, and has what was
there.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .columns import Column, Kind, Moments, Row, Value

_RISKY: Final = re.compile(r"'|\s*[=+\-@\uff1d\uff0b\uff0d\uff20\u2212]|[\t\r\n\x00]|[\s\x00-\x1f\ufeff\u200b]+[=+\-@]")
APOSTROPHE: Final = "'"


def defuse(text: str) -> str:
    """The text as a cell that no spreadsheet computes."""
    if text[:1].isalnum() or _RISKY.match(text) is None:
        return text
    return APOSTROPHE + text


def restore(cell: str) -> str:
    """What was defused."""
    return cell.removeprefix(APOSTROPHE)


class CsvEncoder:
    """Bytes of a CSV file, UTF-8, a row of names first. What is unknown and empty text are both an empty cell."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\r\n")
        self._moments = Moments()

    def begin(self) -> bytes:
        self._writer.writerow([name for name, _ in self._columns])
        return self._take()

    def add(self, rows: Sequence[Row]) -> bytes:
        self._writer.writerows(zip(*self._cells(rows), strict=True))
        return self._take()

    def end(self) -> bytes:
        return b""

    def _cells(self, rows: Sequence[Row]) -> Iterator[Iterable[Value]]:
        """Column by column: what is done to a value depends on its column alone."""
        for (_, kind), values in zip(self._columns, zip(*rows, strict=True), strict=True):
            match kind:
                case Kind.TEXT:
                    yield [None if value is None else defuse(str(value)) for value in values]
                case Kind.MOMENT:
                    yield [None if value is None else self._moments.text(int(value)) for value in values]
                case Kind.NUMBER:
                    yield values

    def _take(self) -> bytes:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode()
