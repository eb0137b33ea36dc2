"""Tokens for end users: each lets its bearer watch one job until a moment, and do nothing else. They are sealed with a
key of the store's and kept nowhere, so that every visitor of a page may have one.

    cvj_<job: 32 hex digits><the moment: 16><seal: 64>
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

import msgspec

from conveyor.model.duration import DAY_MS, Duration, read_duration_ms
from conveyor.model.errors import VersionConflictError
from conveyor.model.ids import ID_BYTES, MessageId
from conveyor.store.protocol import Store

PREFIX: Final = "cvj_"
LIFE_MS_MAX: Final = 30 * DAY_MS
KIND: Final = "server_secret"
NAME: Final = "watching"
_KEY_BYTES: Final = 32
_SEAL_BYTES: Final = 32
_MOMENT_BYTES: Final = 8
_BYTES: Final = ID_BYTES + _MOMENT_BYTES + _SEAL_BYTES


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says."""

    job: str
    expires_at: int
    key_id: str
    """Of the key that sealed it."""


async def make_token(store: Store, job: MessageId, expires_in: Duration) -> str:
    """`InvalidDurationError` for a life that is too long, or none."""
    life_ms = read_duration_ms(expires_in, name="expires_in", least_ms=1, most_ms=LIFE_MS_MAX)
    said = job + (store.clock.now_ms() + life_ms).to_bytes(_MOMENT_BYTES, "big")
    return PREFIX + (said + _seal(await _make_key(store), said)).hex()


async def read_token(store: Store, token: str) -> Watch | None:
    """None for one that was not sealed here, or since the key was changed; whether it is over, the reader sees."""
    try:
        raw = bytes.fromhex(token.removeprefix(PREFIX)) if token.startswith(PREFIX) else b""
    except ValueError:
        return None
    key = await read_key(store)
    if len(raw) != _BYTES or key is None:
        return None
    said, seal = raw[:-_SEAL_BYTES], raw[-_SEAL_BYTES:]
    if not hmac.compare_digest(_seal(key, said), seal):
        return None
    return Watch(
        job=said[:ID_BYTES].hex(), expires_at=int.from_bytes(said[ID_BYTES:], "big"), key_id=key_id(key)
    )  # fmt: skip


async def revoke_tokens(store: Store) -> None:
    """All of them: whoever asks next makes a new key."""
    await store.delete_document(KIND, NAME)


async def read_key(store: Store) -> bytes | None:
    found = await store.get_document(KIND, NAME)
    return None if found is None else bytes.fromhex(found.body.decode().strip('"'))


def key_id(key: bytes) -> str:
    """By which a key is known without being shown."""
    return hashlib.blake2b(key, digest_size=8, person=b"conveyor-watch").hexdigest()


async def _make_key(store: Store) -> bytes:
    """The same for every process of a store; whoever comes first makes it."""
    while (key := await read_key(store)) is None:
        try:
            await store.put_document(KIND, NAME, b'"%s"' % secrets.token_hex(_KEY_BYTES).encode(), version=0)
        except VersionConflictError:  # somebody else has just made it
            continue
    return key


def _seal(key: bytes, said: bytes) -> bytes:
    return hashlib.blake2b(said, key=key, digest_size=_SEAL_BYTES).digest()
