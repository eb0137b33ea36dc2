"""A zip of an order's outputs, written while it is sent: nothing is packed, nothing is kept."""

import zipfile
from collections.abc import AsyncIterator, Sequence
from typing import IO, cast

from conveyor import Bucket

from .words import output_key


class _Pipe:
    """What `zipfile` writes to: it hands over what has gathered."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def take(self) -> bytes:
        """All since the last time."""
        taken, self._parts = b"".join(self._parts), []
        return taken


async def zip_outputs(bucket: Bucket, order: str, names: Sequence[str]) -> AsyncIterator[bytes]:
    """The bytes of a zip with these outputs."""
    pipe = _Pipe()
    with zipfile.ZipFile(cast("IO[bytes]", pipe), "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in names:
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                async for chunk in bucket.chunks(output_key(order, name)):
                    entry.write(chunk)
                    yield pipe.take()
    yield pipe.take()
