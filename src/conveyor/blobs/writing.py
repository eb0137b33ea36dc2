"""What every write computes of the bytes that go by: their size and their digests."""

from __future__ import annotations

import hashlib

from conveyor.blobs.model import Draft
from conveyor.model.beside import BlobChecksumError


class Sums:
    """Of the bytes so far."""

    def __init__(self) -> None:
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        self._md5.update(chunk)
        self._sha256.update(chunk)
        self.size += len(chunk)

    @property
    def md5(self) -> str:
        """In hex."""
        return self._md5.hexdigest()

    @property
    def sha256(self) -> str:
        """In hex."""
        return self._sha256.hexdigest()

    def check(self, draft: Draft) -> None:
        """`BlobChecksumError` unless they are what the draft says."""
        if draft.sha256 not in {None, self.sha256}:
            raise BlobChecksumError(draft.key, "SHA-256", str(draft.sha256), self.sha256)
        if draft.md5 not in {None, self.md5}:
            raise BlobChecksumError(draft.key, "MD5", str(draft.md5), self.md5)
