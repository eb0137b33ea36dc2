"""JSON: one array, one row a line, so that programs can read it whole and people can look at it with `head`."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from .columns import Column, Kind, Moments, Row, Value


class JsonEncoder:
    """Bytes of an array of objects."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._names = [name for name, _ in columns]
        self._columns = columns
        self._encoder = msgspec.json.Encoder()
        self._moments = Moments()
        self._is_first = True

    def begin(self) -> bytes:
        return b"["

    def add(self, rows: Sequence[Row]) -> bytes:
        start, self._is_first = b"\n" if self._is_first else b",\n", False
        encode, names = self._encoder.encode, self._names
        lines = (encode(dict(zip(names, row, strict=True))) for row in zip(*self._values(rows), strict=True))
        return start + b",\n".join(lines)

    def end(self) -> bytes:
        return b"\n]\n"

    def _values(self, rows: Sequence[Row]) -> Iterator[Iterable[Value]]:
        for (_, kind), values in zip(self._columns, zip(*rows, strict=True), strict=True):
            if kind is Kind.MOMENT:
                yield [None if value is None else self._moments.text(int(value)) for value in values]
            else:
                yield values
