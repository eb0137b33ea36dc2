"""An export from beginning to end: pages of rows, encoded on the reader's thread, into one object of the bucket.

Nothing is ahead of anything: the bucket asks for the next piece when the one before is stored, and only then the next
page is read. The object changes from one moment to the next, whole; who is cut short leaves nothing behind.
"""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from conveyor import Bucket
from conveyor_apps.concierge.words import Format

from .columns import Column
from .files import CONTENT_TYPES, encoder_of
from .reading import Bindings, Reader

PAGE_ROWS: Final = 4_096
KEY_PARTS: Final = 2
FILE_BYTES_MAX: Final = 50_000_000_000

Tell = Callable[[int], Awaitable[None]]
"""How many rows are written; whoever raises here ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Rows of one kind, by the names of their statements. Both take the values of a selection. `extent` gives how many
    rows there are and how far they go; `page` takes `:after`, `:after_id`, `:last` and `:limit` too, and gives rows in
    the order of a key of two parts, each behind its key."""

    name: str
    columns: tuple[Column, ...]
    extent: str
    page: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What an export holds: rows whose key begins with this number at most, so that a second attempt does not go on to
    what came meanwhile."""

    rows: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file that lies in the bucket."""

    key: str
    rows: int
    size: int
    """Bytes."""
    sha256: str


@dataclass(slots=True)
class _Stream:
    reader: Reader
    dataset: Dataset
    selection: Bindings
    extent: Extent
    format: Format
    tell: Tell
    rows: int = field(default=0, init=False)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        encoder = await self.reader.run(lambda: encoder_of(self.format, self.dataset.columns))
        values = {**self.selection, "last": self.extent.last, "limit": PAGE_ROWS}
        after: tuple[int, str] = (-1, "")

        def step() -> tuple[int, tuple[int, str], bytes]:
            found = self.reader.rows(self.dataset.page, {**values, "after": after[0], "after_id": after[1]})
            key = found[-1][:KEY_PARTS] if found else after
            return len(found), key, encoder.add([row[KEY_PARTS:] for row in found]) if found else b""

        yield await self.reader.run(encoder.begin)
        while True:
            count, after, piece = await self.reader.run(step)
            if count == 0:
                break
            if piece:
                yield piece
            self.rows += count
            await self.tell(self.rows)
        yield await self.reader.run(encoder.end)


async def measure(reader: Reader, dataset: Dataset, selection: Bindings) -> Extent:
    """What there is now."""
    [(rows, last)] = await reader.run(lambda: reader.rows(dataset.extent, selection))
    return Extent(rows=rows, last=-1 if last is None else last)


async def export(
    bucket: Bucket, key: str, *, reader: Reader, dataset: Dataset, selection: Bindings, extent: Extent, format: Format,
    tell: Tell, metadata: Mapping[str, str],
) -> Made:  # fmt: skip
    """Write the file in place of the one before. `ExportError`; `BodyTooLargeError` beyond what the bucket takes."""
    stream = _Stream(reader, dataset, selection, extent, format, tell)
    async with contextlib.aclosing(stream.pieces()) as pieces:
        info = await bucket.put(
            key, pieces, content_type=CONTENT_TYPES[format], metadata=dict(metadata), size_max=FILE_BYTES_MAX
        )
    return Made(key=key, rows=stream.rows, size=info.size, sha256=info.sha256 or "")
