"""Whether an exported file of the audit trail, or an archive of it, is what was written, from the file alone.

Each record carries the hash before it and its own, which is over that hash and its facts: one that was edited shows by
itself, one that was taken out, added or moved shows by its neighbours. In a file with filters there are gaps on
purpose; they are counted, not accused. With a pepper (`CONVEYOR_PEPPER`) hashes are HMACs, which only who knows it can
check; without it the links between records still are.
"""

import csv
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from conveyor_apps.concierge.audit import FACTS, seal

from .columns import Kind, read_moment
from .csv_text import restore
from .datasets import AUDIT
from .errors import ExportError
from .parquet import import_pyarrow

FAULTS_MAX: Final = 100
_BATCH_ROWS: Final = 8_192
_CHUNK_BYTES: Final = 1 << 20
_NAMES: Final = tuple(name for name, _ in AUDIT.columns)


class FileFault(msgspec.Struct, frozen=True, kw_only=True):
    """A record that is not as it was written."""

    number: int
    problem: str


class FileExamined(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of the trail holds."""

    sha256: str
    """Of the file."""
    records: int
    first: int
    last: int
    head: str
    """`NUMBER:HASH` of the last one."""
    gaps: int
    """Places where records are left out; none in a file that was filtered by dates alone."""
    are_hashes_checked: bool
    """False where not one fits, as where they are keyed and no pepper was given."""
    faults: list[FileFault]
    """The first hundred."""

    @property
    def is_sound(self) -> bool:
        """Nothing is wrong, and all of it was looked at."""
        return self.are_hashes_checked and not self.faults


def verify_file(path: Path, *, pepper: str | None = None, expected: str | None = None) -> FileExamined:
    """Read it once, in constant memory. `expected` is the head that it must end with: what was cut off at its end shows
    by that alone. `ExportError` for what is no export of the trail."""
    examined = _Examination(pepper.encode() if pepper else None)
    try:
        for record in _records_of(path):
            examined.look(record)
    except (ValueError, KeyError, TypeError, msgspec.MsgspecError, csv.Error, EOFError, zlib.error, OSError) as error:
        problem = f"its records have no {error}" if isinstance(error, KeyError) else error
        raise ExportError(f"`{path.name}` cannot be read as an export of the audit trail: {problem}") from error
    return examined.result(_digest_of(path), expected)


class _Examination:
    def __init__(self, pepper: bytes | None) -> None:
        self._pepper = pepper
        self._misplaced: list[FileFault] = []
        self._edited: list[FileFault] = []
        self._records = self._first = self._gaps = self._sealed = 0
        self._last = -1
        self._head = ""

    def look(self, record: dict[str, Any]) -> None:
        number, previous, own = record["number"], record["previous"], record["hash"]
        if self._records == 0:
            self._first = number
        elif number <= self._last:
            _accuse(self._misplaced, number, f"stands behind number {self._last}")
        elif number > self._last + 1:
            self._gaps += 1
        elif previous != self._head:
            _accuse(self._misplaced, number, "does not follow the record before it")
        before = bytes.fromhex(previous) if previous else bytes(32)
        if seal(before, {name: record[name] for name in FACTS}, self._pepper).hex() == own:
            self._sealed += 1
        else:
            _accuse(self._edited, number, "is not as it was written")
        self._records, self._last, self._head = self._records + 1, number, own

    def result(self, sha256: str, expected: str | None) -> FileExamined:
        head = f"{self._last}:{self._head}" if self._records else ""
        if expected is not None and head != expected:
            _accuse(self._misplaced, max(self._last, 0), f"is the last one here, and {expected[:32]} was expected")
        are_keyed = self._pepper is None and self._records > 0 and self._sealed == 0
        return FileExamined(
            sha256=sha256, records=self._records, first=self._first, last=max(self._last, 0), head=head,
            gaps=self._gaps, are_hashes_checked=not are_keyed,
            faults=(self._misplaced if are_keyed else self._misplaced + self._edited)[:FAULTS_MAX],
        )  # fmt: skip


def _accuse(faults: list[FileFault], number: int, problem: str) -> None:
    if len(faults) < FAULTS_MAX:
        faults.append(FileFault(number=number, problem=problem))


def _records_of(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PAR1":
        yield from _records_of_parquet(path)
    elif start.startswith(b"\x1f\x8b"):
        with gzip.open(path, "rb") as lines:
            yield from _records_of_json(lines)
    elif start.startswith(b"["):
        with path.open("rb") as lines:
            yield from _records_of_json(lines)
    else:
        yield from _records_of_csv(path)


def _records_of_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        if tuple(next(rows, ())) != _NAMES:
            raise ValueError(f"its first row is not {','.join(_NAMES)}")
        for row in rows:
            if len(row) != len(_NAMES):
                raise ValueError(f"line {rows.line_num} has {len(row)} cells")
            yield {name: _read(kind, cell) for (name, kind), cell in zip(AUDIT.columns, row, strict=True)}


def _read(kind: Kind, cell: str) -> str | int:
    match kind:
        case Kind.NUMBER:
            return int(cell)
        case Kind.MOMENT:
            return read_moment(cell)
        case Kind.TEXT:
            return restore(cell)


def _records_of_json(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """One record a line, as exports and archives are written."""
    decoder = msgspec.json.Decoder(dict[str, Any])
    for line in lines:
        text = line.strip().removesuffix(b",")
        if text not in {b"[", b"]", b""}:
            record = decoder.decode(text)
            yield {**record, "at": read_moment(record["at"])}


def _records_of_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import_pyarrow()
    with import_pyarrow("pyarrow.parquet").ParquetFile(path) as file:
        if tuple(file.schema_arrow.names) != _NAMES:
            raise ValueError(f"its columns are not {','.join(_NAMES)}")
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            moments = batch.column("at").cast("int64").to_pylist()
            for record, at in zip(batch.drop_columns(["at"]).to_pylist(), moments, strict=True):
                yield {**record, "at": at}


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
