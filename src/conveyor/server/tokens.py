"""API tokens: made with 256 random bits and shown once; the store keeps a hash, never the token.

    cvy_0123456789abcdef<64 hex digits of secret><8 hex digits of checksum>
        the id

A token is checked against the store at first sight and every `FRESH_S` from then on, beside the requests that it comes
with: none of them waits for the store, and a token that was revoked is refused after `STALE_S` at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import zlib
from collections import OrderedDict
from typing import Final

import msgspec

from conveyor.jobs.watching import PREFIX as WATCH_PREFIX
from conveyor.jobs.watching import read_token
from conveyor.model.errors import ConflictError, InvalidSettingError, NotFoundError, StoreError, VersionConflictError
from conveyor.model.refusals import UnauthenticatedError
from conveyor.server.rights import Caller, Right, held_by
from conveyor.store.protocol import Store

KIND: Final = "token"
PREFIX: Final = "cvy_"
_WATCH: Final = WATCH_PREFIX.encode()
ENVIRONMENT_ID: Final = "environment"
"""Of the token that stands in CONVEYOR_TOKEN; it is not in the store."""
ENVIRONMENT_CHARS_MIN: Final = 32
FRESH_S: Final = 2.0
STALE_S: Final = 4.0
USED_MS: Final = 60_000
"""`last_used_at` is written so often at most."""
TOKENS_MAX: Final = 1_000
PATTERNS_MAX: Final = 100
KNOWN_MAX: Final = 4_096
NAME_CHARS_MAX: Final = 64
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_PATTERN_SIGNS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:*?")


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a token; the secret is not."""

    id: str
    name: str
    rights: tuple[Right, ...]
    queues: tuple[str, ...] | None = None
    """Patterns with `*` and `?`; None is all, and the rest of the store."""
    created_at: int
    created_by: str
    expires_at: int | None = None
    last_used_at: int | None = None
    job: str | None = None
    """An end user's: it may watch this one, and nothing else."""


class _Stored(Token, frozen=True, kw_only=True):
    digest: str
    """SHA-256 of the whole token, or its HMAC with the server's pepper."""
    is_peppered: bool = False


class Secret(str):
    """A token in the clear, on its way to whoever asked for it. No log and no traceback shows it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('cvy_...')"


class Tokens:
    """The tokens of a store. `pepper` is a secret of the server's, from CONVEYOR_PEPPER."""

    def __init__(self, store: Store, *, pepper: str | None = None) -> None:
        self._store = store
        self._pepper = None if pepper is None else pepper.encode()

    async def create(
        self,
        name: str,
        rights: frozenset[Right],
        *,
        queues: tuple[str, ...] | None = None,
        expires_at: int | None = None,
        created_by: str,
    ) -> tuple[Token, Secret]:
        """The token, and its secret, which nobody can ever read again. `InvalidSettingError`, `ConflictError`."""
        _check(name, rights, queues)
        if expires_at is not None and expires_at <= self._store.clock.now_ms():
            raise InvalidSettingError("expires_at", expires_at, "is over already")
        if len(await self._store.list_documents(KIND, limit=TOKENS_MAX)) >= TOKENS_MAX:
            raise ConflictError(f"there are {TOKENS_MAX:,} tokens already", hint="revoke some: `conveyor tokens list`")
        token_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
        bare = f"{PREFIX}{token_id}{secret}"
        shown = Secret(f"{bare}{_checksum(bare)}")
        stored = _Stored(
            id=token_id,
            name=name,
            rights=tuple(sorted(rights)),
            queues=queues,
            created_at=self._store.clock.now_ms(),
            created_by=created_by,
            expires_at=expires_at,
            digest=self._digest(shown.encode(), peppered=self._pepper is not None),
            is_peppered=self._pepper is not None,
        )
        await self._store.put_document(KIND, token_id, msgspec.json.encode(stored), version=0)
        return _shown(stored), shown

    async def list(self) -> list[Token]:
        """All of them, the oldest first; those that have expired too."""
        found = await self._store.list_documents(KIND, limit=TOKENS_MAX)
        return sorted((_shown(_read(each.body)) for each in found), key=lambda token: (token.created_at, token.id))

    async def get(self, token_id: str) -> Token:
        """`NotFoundError`."""
        return _shown((await self._find(token_id))[0])

    async def revoke(self, token_id: str) -> Token:
        """Every server refuses it after `STALE_S`. `NotFoundError`."""
        stored, _ = await self._find(token_id)
        await self._store.delete_document(KIND, token_id)
        return _shown(stored)

    async def rotate(self, token_id: str, *, overlap_ms: int, created_by: str) -> tuple[Token, Secret]:
        """A new one with the same rights, which lives for as long as the old one was to; the old one ends after
        `overlap_ms`. `NotFoundError`, `ConflictError`."""
        stored, _ = await self._find(token_id)
        now = self._store.clock.now_ms()
        life = None if stored.expires_at is None else stored.expires_at - stored.created_at
        made = await self.create(
            stored.name,
            frozenset(stored.rights),
            queues=stored.queues,
            expires_at=None if life is None else now + life,
            created_by=created_by,
        )
        await self._end(token_id, now + overlap_ms)
        return made

    async def _end(self, token_id: str, moment: int) -> None:
        """Its use may be noted meanwhile, so it is tried until nobody was in between."""
        while True:
            stored, version = await self._find(token_id)
            ends = moment if stored.expires_at is None else min(stored.expires_at, moment)
            body = msgspec.json.encode(msgspec.structs.replace(stored, expires_at=ends))
            with contextlib.suppress(VersionConflictError):
                await self._store.put_document(KIND, token_id, body, version=version)
                return

    async def is_any(self) -> bool:
        """Whether somebody could come in."""
        return bool(await self._store.list_documents(KIND, limit=1))

    async def verify(self, presented: bytes) -> Token:
        """`UnauthenticatedError`, with the same words whatever is wrong; `StoreError`."""
        if presented.startswith(_WATCH):
            return await self._verify_watch(presented)
        token_id = read_token_id(presented)
        document = None if token_id is None else await self._store.get_document(KIND, token_id)
        if document is None:
            raise UnauthenticatedError
        stored, now = _read(document.body), self._store.clock.now_ms()
        digest = self._digest(presented, peppered=stored.is_peppered)
        if not hmac.compare_digest(digest, stored.digest) or (
            stored.expires_at is not None and stored.expires_at <= now
        ):
            raise UnauthenticatedError
        if stored.last_used_at is None or now - stored.last_used_at >= USED_MS:
            used = msgspec.json.encode(msgspec.structs.replace(stored, last_used_at=now))
            with contextlib.suppress(VersionConflictError):  # or somebody has revoked it, which the next look sees
                await self._store.put_document(KIND, stored.id, used, version=document.version)
        return _shown(stored)

    async def _verify_watch(self, presented: bytes) -> Token:
        watch = await read_token(self._store, presented.decode("ascii", "replace"))
        if watch is None or watch.expires_at <= self._store.clock.now_ms():
            raise UnauthenticatedError
        return Token(
            id=watch.key_id, name="end user", rights=(), created_at=0, created_by="", expires_at=watch.expires_at,
            job=watch.job,
        )  # fmt: skip

    async def _find(self, token_id: str) -> tuple[_Stored, int]:
        document = await self._store.get_document(KIND, token_id)
        if document is None:
            raise NotFoundError(f"no token has the id `{token_id[:64]}`", hint="see `conveyor tokens list`")
        return _read(document.body), document.version

    def _digest(self, presented: bytes, *, peppered: bool) -> str:
        if not peppered:
            return hashlib.sha256(presented).hexdigest()
        return hmac.new(self._pepper or b"", presented, hashlib.sha256).hexdigest()


class Doorman:
    """Knows the tokens that come often, so that no request waits for the store. `environment` is CONVEYOR_TOKEN."""

    def __init__(self, tokens: Tokens, store: Store, *, environment: str | None = None) -> None:
        self._tokens = tokens
        self._store = store
        self._monotonic = store.clock.monotonic
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Token]] = {}
        if environment is not None:
            self._known[_key(environment.encode())] = _Known(_ENVIRONMENT, None)

    def recall(self, presented: bytes, address: str) -> Caller | None:
        """Who this is, if it was looked up lately."""
        key = _key(presented)
        known = self._known.get(key)
        if known is None:
            return None
        if known.looked_at is not None:
            age = self._monotonic() - known.looked_at
            if age >= STALE_S or not known.lives(self._store.clock.now_ms()):
                return None
            if age >= FRESH_S and key not in self._asking:
                self._ask(key, presented)
        return known.caller(address)

    async def look_up(self, presented: bytes, address: str) -> Caller:
        """Ask the store. `UnauthenticatedError`, `StoreError`: whoever cannot be looked up does not come in."""
        key = _key(presented)
        token = await asyncio.shield(self._asking.get(key) or self._ask(key, presented))
        return _Known(token, None).caller(address)

    def _ask(self, key: bytes, presented: bytes) -> asyncio.Task[Token]:
        task = asyncio.get_running_loop().create_task(self._tokens.verify(presented))
        self._asking[key] = task
        asked_at = self._monotonic()
        task.add_done_callback(lambda done: self._learn(key, done, asked_at))
        return task

    def _learn(self, key: bytes, done: asyncio.Task[Token], asked_at: float) -> None:
        self._asking.pop(key, None)
        if done.cancelled():
            return
        problem = done.exception()
        if problem is None:
            self._known[key] = _Known(done.result(), asked_at)
            self._known.move_to_end(key)
            if len(self._known) > KNOWN_MAX:
                oldest = next(each for each, known in self._known.items() if known.looked_at is not None)
                del self._known[oldest]
        elif not isinstance(problem, StoreError):  # a store that is away is asked again, until what we know is stale
            self._known.pop(key, None)


class _Known:
    __slots__ = ("_expires_at", "_id", "_job", "_name", "_queues", "_rights", "looked_at")

    def __init__(self, token: Token, looked_at: float | None) -> None:
        self.looked_at = looked_at
        self._expires_at = token.expires_at
        self._id = token.id
        self._job = token.job
        self._name = token.name
        self._rights = held_by(frozenset(token.rights))
        self._queues = token.queues

    def lives(self, now_ms: int) -> bool:
        return self._expires_at is None or self._expires_at > now_ms

    def caller(self, address: str) -> Caller:
        return Caller(
            token_id=self._id, name=self._name, rights=self._rights, queues=self._queues, address=address,
            job=self._job, expires_at=self._expires_at,
        )  # fmt: skip


_ENVIRONMENT: Final = Token(
    id=ENVIRONMENT_ID, name="CONVEYOR_TOKEN", rights=(Right.ADMIN,), created_at=0, created_by="environment"
)


def read_environment() -> tuple[str | None, str | None]:
    """CONVEYOR_TOKEN and CONVEYOR_PEPPER. `InvalidSettingError`, which does not show them."""
    found: list[str | None] = []
    for name in ("CONVEYOR_TOKEN", "CONVEYOR_PEPPER"):
        value = os.environ.get(name) or None
        if value is not None and (len(value) < ENVIRONMENT_CHARS_MIN or not value.isascii() or not value.isprintable()):
            problem = f"must have {ENVIRONMENT_CHARS_MIN} characters or more, all of them ASCII"
            raise InvalidSettingError(name, "...", problem, hint="`openssl rand -hex 32` makes one")
        found.append(value)
    return found[0], found[1]


def read_token_id(presented: bytes) -> str | None:
    """The id in a token whose form and checksum are right."""
    size = len(PREFIX) + 2 * (_ID_BYTES + _SECRET_BYTES)
    if len(presented) != size + 8 or not presented.isascii():
        return None
    bare, checksum = presented[:size].decode(), presented[size:].decode()
    if not bare.startswith(PREFIX) or _checksum(bare) != checksum:
        return None
    token_id = bare[len(PREFIX) : len(PREFIX) + 2 * _ID_BYTES]
    return token_id if token_id.isalnum() else None


def _checksum(bare: str) -> str:
    return f"{zlib.crc32(bare.encode()):08x}"


def _key(presented: bytes) -> bytes:
    """Under which a token is known in memory; not the token, and not what the store has of it."""
    return hashlib.blake2b(presented, digest_size=32).digest()


def _read(body: bytes) -> _Stored:
    return msgspec.json.decode(body, type=_Stored)


def _shown(stored: _Stored) -> Token:
    return Token(**{name: getattr(stored, name) for name in Token.__struct_fields__})


def _check(name: str, rights: frozenset[Right], queues: tuple[str, ...] | None) -> None:
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise InvalidSettingError("name", name[:NAME_CHARS_MAX], f"has 1 to {NAME_CHARS_MAX} signs that can be printed")
    if not rights:
        raise InvalidSettingError("rights", "none", "say at least one", hint=", ".join(Right))
    if queues is None:
        return
    if Right.ADMIN in rights:
        raise InvalidSettingError("queues", ",".join(queues)[:64], "admin is for the whole store")
    if not 0 < len(queues) <= PATTERNS_MAX:
        raise InvalidSettingError("queues", len(queues), f"are 1 to {PATTERNS_MAX} patterns")
    for pattern in queues:
        if not 0 < len(pattern) <= NAME_CHARS_MAX or not _PATTERN_SIGNS.issuperset(pattern):
            hint = "letters, digits, `_`, `-`, `.`, and `*` or `?` for any"
            raise InvalidSettingError("queues", pattern[:NAME_CHARS_MAX], "is no pattern of names", hint=hint)
