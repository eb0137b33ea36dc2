"""Lease ids and refs: a message's seq and claim, sealed for one queue and one token, so that nobody can make one up, or
use another's."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from conveyor.model.errors import VersionConflictError
from conveyor.store.protocol import Store

KIND: Final = "server_secret"
NAME: Final = "leases"
SEAL_BYTES: Final = 16
"""128 bits: more than anybody can guess."""
_PLACE_BYTES: Final = 12
_CHARS: Final = 2 * (_PLACE_BYTES + SEAL_BYTES)
_REF: Final = 0
"""The claim in the ref of a peeked message; leases count from 1."""
_STAMPS_MAX: Final = 4_096


class Stamp:
    """Seals what one token takes from one queue."""

    __slots__ = ("_begun",)

    def __init__(self, key: bytes, queue: str, token: str) -> None:
        self._begun = hashlib.blake2b(f"{queue}\0{token}\0".encode(), key=key, digest_size=SEAL_BYTES)

    def lease(self, seq: int, claim: int) -> str:
        """The lease id of one claim on a message."""
        place = seq.to_bytes(8, "big") + claim.to_bytes(4, "big")
        seal = self._begun.copy()
        seal.update(place)
        return (place + seal.digest()).hex()

    def ref(self, seq: int) -> str:
        """The ref of a message that was peeked at."""
        return self.lease(seq, _REF)

    def read_lease(self, text: str) -> tuple[int, int] | None:
        """(seq, claim) of a lease id that was sealed here."""
        found = self._read(text)
        return None if found is None or found[1] == _REF else found

    def read_ref(self, text: str) -> int | None:
        """The seq of a ref that was sealed here."""
        found = self._read(text)
        return None if found is None or found[1] != _REF else found[0]

    def _read(self, text: str) -> tuple[int, int] | None:
        if len(text) != _CHARS:
            return None
        try:
            sealed = bytes.fromhex(text)
        except ValueError:
            return None
        place = sealed[:_PLACE_BYTES]
        seal = self._begun.copy()
        seal.update(place)
        if not hmac.compare_digest(seal.digest(), sealed[_PLACE_BYTES:]):
            return None
        return int.from_bytes(place[:8], "big"), int.from_bytes(place[8:], "big")


class Stamps:
    """The stamps of one server, all made with the store's own key."""

    def __init__(self) -> None:
        self._key: bytes | None = None
        self._stamps: dict[tuple[str, str], Stamp] = {}

    async def of(self, store: Store, queue: str, token: str | None) -> Stamp:
        """For a queue's id and a token's."""
        stamp = self._stamps.get((queue, token or ""))
        if stamp is None:
            if self._key is None:
                self._key = await _read_key(store)
            if len(self._stamps) >= _STAMPS_MAX:
                self._stamps.clear()
            stamp = self._stamps[queue, token or ""] = Stamp(self._key, queue, token or "")
        return stamp


async def _read_key(store: Store) -> bytes:
    """The same for every server of a store; whoever comes first makes it."""
    found = await store.get_document(KIND, NAME)
    if found is None:
        try:
            found = await store.put_document(KIND, NAME, b'"%s"' % secrets.token_hex(32).encode(), version=0)
        except VersionConflictError:
            found = await store.get_document(KIND, NAME)
    assert found is not None, "one of us has made it"
    return bytes.fromhex(found.body.decode().strip('"'))
