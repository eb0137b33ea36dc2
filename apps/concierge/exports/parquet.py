"""Parquet, for what is large: columns, compressed, in row groups. Needs the extra `concierge`: pyarrow is imported with
the first such export, and nowhere else."""

import importlib
from collections.abc import Sequence
from typing import Any, Final

from .columns import Column, Kind, Row
from .errors import ExportError

GROUP_ROWS: Final = 32_768
"""Rows of a group, which are in memory at a time."""


def import_pyarrow(name: str = "pyarrow") -> Any:
    """The library, which has no types. `ExportError` that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(f"Parquet needs `{name}`: pip install 'conveyor[concierge]'") from error


class _Sink:
    """What a Parquet writer takes for a file: it keeps what is written until somebody takes it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.closed = False

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing lies below."""

    def close(self) -> None:
        self.closed = True

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def take(self) -> bytes:
        """What was written since."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class ParquetEncoder:
    """Bytes of a Parquet file; its index stands at its end."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._arrow = import_pyarrow()
        types = {
            Kind.TEXT: self._arrow.string(), Kind.NUMBER: self._arrow.int64(),
            Kind.MOMENT: self._arrow.timestamp("ms", tz="UTC"),
        }  # fmt: skip
        self._schema = self._arrow.schema([(name, types[kind]) for name, kind in columns])
        self._sink = _Sink()
        self._file = self._arrow.PythonFile(self._sink, mode="w")
        self._writer = import_pyarrow("pyarrow.parquet").ParquetWriter(self._file, self._schema, compression="zstd")
        self._waiting: list[Any] = []
        self._rows = 0

    def begin(self) -> bytes:
        return self._sink.take()

    def add(self, rows: Sequence[Row]) -> bytes:
        arrays = [
            self._arrow.array(values, type=field.type)
            for field, values in zip(self._schema, zip(*rows, strict=True), strict=True)
        ]
        self._waiting.append(self._arrow.record_batch(arrays, schema=self._schema))
        self._rows += len(rows)
        if self._rows >= GROUP_ROWS:
            self._write_waiting()
        return self._sink.take()

    def end(self) -> bytes:
        self._write_waiting()
        self._writer.close()
        self._file.close()
        return self._sink.take()

    def _write_waiting(self) -> None:
        """As one group."""
        if self._rows:
            group = self._arrow.Table.from_batches(self._waiting, schema=self._schema)
            self._writer.write_table(group, row_group_size=self._rows)
            self._waiting.clear()
            self._rows = 0
