"""Carries everything from one store to another, row by row in bounded memory, and proves that it arrived."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeAlias

import msgspec

from conveyor.model.errors import StoreCorruptError
from conveyor.store.portable import TABLES, Incoming, Outgoing, Row, Table

Progress: TypeAlias = Callable[[int, int], None]
"""Told (done, total), in units of the database's own."""

_PASSES: Final = 4
"""Each message is a row of `messages` and one of its place, written once and read once."""
_encode: Final = msgspec.msgpack.Encoder().encode


class Tally(msgspec.Struct, frozen=True):
    """A table's rows, and a checksum over every value in them."""

    rows: int
    checksum: str


class _Counter:
    """Counts what passes."""

    def __init__(self, bar: _Bar) -> None:
        self._rows = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._bar = bar

    async def watch(self, chunks: AsyncIterator[list[Row]]) -> AsyncIterator[list[Row]]:
        async for chunk in chunks:
            self._rows += len(chunk)
            self._hash.update(b"".join(map(_encode, chunk)))
            self._bar.add(len(chunk))
            yield chunk

    def tally(self) -> Tally:
        return Tally(self._rows, self._hash.hexdigest())


class _Bar:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, rows: int) -> None:
        self._done += rows
        self._progress(self._done, max(self._total, self._done))


async def carry(outgoing: Outgoing, incoming: Incoming, where: str, progress: Progress) -> dict[str, Tally]:
    """What was carried, by table. `StoreCorruptError` if `where` gives back anything else than what went in."""
    heading = await outgoing.heading()
    bar = _Bar(progress, heading.messages * _PASSES)
    sent = {table.name: await _send(outgoing, incoming, table, bar) for table in TABLES}
    await incoming.finish(heading)
    for table in TABLES:
        came = await _read_back(incoming, table, bar)
        if came != sent[table.name]:
            problem = f"`{table.name}` went in as {sent[table.name]} and came out as {came}; nothing was kept"
            raise StoreCorruptError(where, problem)
    return sent


async def _send(outgoing: Outgoing, incoming: Incoming, table: Table, bar: _Bar) -> Tally:
    counter = _Counter(bar)
    await incoming.load(table, counter.watch(outgoing.rows(table)))
    return counter.tally()


async def _read_back(incoming: Incoming, table: Table, bar: _Bar) -> Tally:
    counter = _Counter(bar)
    async for _ in counter.watch(incoming.rows(table)):
        pass
    return counter.tally()
