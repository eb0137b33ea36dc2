"""Secrets of an app, as `wrangler secret put` writes them: encrypted at rest, shown to nobody, read by the app alone.

    app.secrets["CLAUDE_API_KEY"]

Each is sealed with AES-256-GCM, under a nonce of its own, and bound to its app and name. The key comes from
CONVEYOR_SECRETS_KEY, else from a file beside the store that only its owner may read; the document keeps the key's id.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import hmac
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from conveyor.model.errors import InvalidKeyError, InvalidSettingError, StoreClosedError, StoreError
from conveyor.queue.sealing import VARIABLE, Sealer
from conveyor.store.chosen import choose_encrypted, choose_files, make_folder
from conveyor.store.protocol import DocumentStore, Store

SECRETS: Final = "secret"
"""The kind of documents that secrets are; their names are `APP/NAME`."""
NAME_CHARS_MAX: Final = 255
TEXT_BYTES_MAX: Final = 5_120
KEY_BYTES: Final = 32
PER_APP_MAX: Final = 1_000
FILE: Final = "secrets.key"
_PAYLOADS: Final = b"payloads"


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A secret as the store keeps it."""

    key_id: str
    nonce: bytes
    sealed: bytes


class Keys:
    """The keys that this machine holds: the first seals, each of them opens."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._keys: dict[str, bytes] = {}

    def seal(self, place: str, text: str) -> Sealed:
        """`place` is what the secret is bound to."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # only those who keep secrets pay for it

        if not self._keys:
            self._keys = self._read(make=True)
        key_id, key = next(iter(self._keys.items()))
        nonce = os.urandom(12)
        return Sealed(key_id=key_id, nonce=nonce, sealed=AESGCM(key).encrypt(nonce, text.encode(), place.encode()))

    def open(self, place: str, sealed: Sealed) -> str:
        """`InvalidSettingError` if its key is not here, or it was put in another's place."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if sealed.key_id not in self._keys:
            self._keys = self._read(make=False)
        key = self._keys.get(sealed.key_id)
        if key is None:
            problem = f"`{place}` is sealed with the key `{sealed.key_id}`, which is not here"
            hint = f"set {VARIABLE} to the key with which it was written, or write it anew"
            raise InvalidSettingError(VARIABLE, "...", problem, hint=hint)
        try:
            return AESGCM(key).decrypt(sealed.nonce, sealed.sealed, place.encode()).decode()
        except InvalidTag:
            problem = f"`{place}` was changed in the store, or is another's"
            raise InvalidSettingError(VARIABLE, "...", problem, hint="write the secret anew") from None

    def derive(self, purpose: bytes) -> list[bytes]:
        """A key of 32 bytes for something else, from each of them: the first is for what is made now."""
        if not self._keys:
            self._keys = self._read(make=True)
        return [_derived(key, purpose) for key in self._keys.values()]

    def for_payloads(self, *, make: bool = False) -> dict[str, bytes]:
        """Those of encrypted queues, by the ids of the keys that they come from, as they are here now."""
        self._keys = self._read(make=make)
        return {key_id: _derived(key, _PAYLOADS) for key_id, key in self._keys.items()}

    @property
    def ids(self) -> tuple[str, ...]:
        """Of those that are here now; the first one seals."""
        self._keys = self._read(make=False)
        return tuple(self._keys)

    def add(self) -> str:
        """A new key on top of the file's, which seals from now on; its id. `InvalidSettingError` where keys come from
        the environment."""
        if os.environ.get(VARIABLE):
            hint = f'put a new one before the others: {VARIABLE}="$(openssl rand -base64 32),${VARIABLE}"'
            raise InvalidSettingError(VARIABLE, "...", "holds the keys, and is yours to change", hint=hint)
        path, key = self._folder() / FILE, os.urandom(KEY_BYTES)
        make_folder(path.parent)
        with _alone_in(path.parent):  # two at once would each put theirs on what they have read, and lose the other's
            if not _put_first(path, key):
                self._read(make=False)  # refuses a file that others may read
                fresh = _write_beside(path, b"\n".join([base64.b64encode(key), *path.read_bytes().split()]) + b"\n")
                os.replace(fresh, path)  # noqa: PTH105 as `os.link` below
                _sync(path.parent)
        return _id_of(key)

    def _read(self, *, make: bool) -> dict[str, bytes]:
        given = os.environ.get(VARIABLE)
        if given:
            texts = [text.strip() for text in given.split(",")]
            return {_id_of(key): key for key in (_read_key(VARIABLE, text) for text in texts)}
        path = self._folder() / FILE
        if make and not path.exists():
            make_folder(path.parent)
            _put_first(path, os.urandom(KEY_BYTES))  # or somebody else has put one, which is as good
        if not path.exists():
            return {}
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise InvalidSettingError(FILE, str(path), "others may read it", hint=f"chmod 600 {path}")
        keys = [_read_key(FILE, line) for line in path.read_text(encoding="ascii").split()]
        return {_id_of(key): key for key in keys}


class Secrets(Mapping[str, str]):
    """Those of one app, as they were when the process, or the one it is a fork of, opened the store; `refresh` looks
    again."""

    def __init__(self, store: Store, app: str, folder: Callable[[], Path]) -> None:
        self._store = store
        self._app = app
        self._keys = Keys(folder)
        self._sealed: dict[str, Sealed] = {}
        self._missing: StoreError | None = StoreClosedError()

    def __getitem__(self, name: str) -> str:
        """KeyError if there is none. `StoreError` if the store could not be asked, or is not open yet."""
        if self._missing is not None:
            raise self._missing
        return self._keys.open(f"{self._app}/{name}", self._sealed[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sealed)

    def __len__(self) -> int:
        return len(self._sealed)

    def __repr__(self) -> str:
        return f"<secrets of {self._app}: {', '.join(self._sealed) or 'none'}>"

    def use_store(self, store: Store) -> None:
        """Those of another store from the next `refresh` on."""
        self._store = store

    async def refresh(self) -> None:
        """Read them anew; a store that does not answer is told of when somebody asks for a secret."""
        try:
            self._sealed, self._missing = await read_secrets(self._store, self._app), None
        except StoreError as error:
            self._missing = error


async def read_secrets(store: DocumentStore, app: str) -> dict[str, Sealed]:
    """All of an app, by name, sealed."""
    found = await store.list_documents(SECRETS, prefix=f"{app}/", limit=PER_APP_MAX)
    return {each.name[len(app) + 1 :]: msgspec.json.decode(each.body, type=Sealed) for each in found}


async def put_secret(store: DocumentStore, keys: Keys, app: str, name: str, text: str) -> None:
    """Write one, in place of the one before. `InvalidKeyError`; what is wrong never shows the text."""
    check_secret(name, text)
    place = f"{app}/{name}"
    await store.put_document(SECRETS, place, msgspec.json.encode(keys.seal(place, text)))


def check_secret(name: str, text: str) -> None:
    """`InvalidKeyError` unless both can be kept."""
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise InvalidKeyError(f"the name of a secret has 1 to {NAME_CHARS_MAX} printable characters")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidKeyError(f"secret `{name}` holds half of a surrogate pair") from None
    if size > TEXT_BYTES_MAX:
        raise InvalidKeyError(f"secret `{name}` has {size:,} bytes, the limit is {TEXT_BYTES_MAX:,}")


async def delete_secret(store: DocumentStore, app: str, name: str) -> bool:
    """Whether it was there."""
    return await store.delete_document(SECRETS, f"{app}/{name}")


def sealer_here(url: str) -> Sealer:
    """For whoever works on a store without an app: the queues that the settings name are encrypted."""
    keys, is_local = Keys(lambda: choose_files(url)), is_of_one_machine(url)
    return Sealer(choose_encrypted(), lambda: keys.for_payloads(make=is_local))


def is_of_one_machine(url: str) -> bool:
    """Whether a key that is made beside this store is beside it for all who use it."""
    return url.startswith("sqlite:")


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, b"conveyor derived key\0" + purpose, "sha256")


def _id_of(key: bytes) -> str:
    return hashlib.sha256(b"conveyor secrets key\0" + key).hexdigest()[:16]


def _read_key(where: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidSettingError(
            where, "...", f"is no key of {KEY_BYTES} bytes in base64", hint=f"openssl rand -base64 {KEY_BYTES}"
        )
    return key


def _put_first(path: Path, key: bytes) -> bool:
    """A file with this key, unless there is one. It is whole as soon as it is there, also for others who make one."""
    if path.exists():
        return False
    fresh = _write_beside(path, base64.b64encode(key) + b"\n")
    try:
        os.link(fresh, path)
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    _sync(path.parent)
    return True


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Nobody else is, on this machine; a process that dies lets go."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _sync(folder: Path) -> None:
    """Before anything is sealed with a key that a power cut could take."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _write_beside(path: Path, text: bytes) -> Path:
    """A file of another name, whole and safe, for its owner alone."""
    fresh = path.with_name(f"{FILE}.{os.getpid()}.{os.urandom(4).hex()}")
    number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(number, "wb") as file:  # noqa: PTH123 a descriptor, made with its permissions
        file.write(text)
        file.flush()
        os.fsync(number)
    return fresh
