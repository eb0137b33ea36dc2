"""Archives: what is about to be deleted, as compressed lines of JSON in the bucket.

An archive is named after what it holds: whoever is cut short between it and the delete writes the same file again.
"""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from conveyor import Bucket
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.errors import ConciergeError
from conveyor_apps.concierge.words import Target

PREFIX: Final = "archive/"
CONTENT_TYPE: Final = "application/gzip"
LEVEL: Final = 6


class ArchiveError(ConciergeError):
    """What lies in the bucket is not what was put there: nothing was deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One that is safely there."""

    key: str
    target: Target
    rows: int
    size: int
    """Bytes."""
    sha256: str
    first_at: int
    last_at: int


async def archive(bucket: Bucket, target: Target, records: Sequence[Any], *, first_at: int, last_at: int) -> Archive:
    """Write them, read them back, and compare. `ArchiveError`."""
    lines = b"".join(msgspec.json.encode(each) + b"\n" for each in records)
    body = gzip.compress(lines, compresslevel=LEVEL, mtime=0)
    sha256 = hashlib.sha256(body).hexdigest()
    day = clock.iso(first_at)[:10]
    key = f"{PREFIX}{target}/{day}/{sha256[:32]}.jsonl.gz"
    about = {"rows": str(len(records)), "first": clock.iso(first_at), "last": clock.iso(last_at)}
    await bucket.put(key, body, content_type=CONTENT_TYPE, metadata=about, sha256=sha256)
    await verify_archive(bucket, key, sha256=sha256, rows=len(records))
    return Archive(
        key=key, target=target, rows=len(records), size=len(body), sha256=sha256, first_at=first_at, last_at=last_at
    )


async def verify_archive(bucket: Bucket, key: str, *, sha256: str, rows: int) -> None:
    """Read what lies there, and count. `ArchiveError`."""
    found = await bucket.get(key)
    if found is None:
        raise ArchiveError(f"archive `{key}` is not in the bucket")
    if hashlib.sha256(found.body).hexdigest() != sha256:
        raise ArchiveError(f"archive `{key}` is not what was written")
    try:
        count = gzip.decompress(found.body).count(b"\n")
    except (OSError, EOFError) as error:
        raise ArchiveError(f"archive `{key}` cannot be read") from error
    if count != rows:
        raise ArchiveError(f"archive `{key}` holds {count:,} records, and {rows:,} were written")
