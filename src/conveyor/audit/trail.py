"""The trail: who changed what, when, from where, what it was before and after, and what came of it.

Each record ends with a hash over the hash before it and its own bytes, and the trail's head is kept beside them, so
that a record that was edited, taken away, put elsewhere or cut off shows. With the server's pepper the hash is an HMAC,
which whoever can only write to the database cannot make.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import os
import socket
from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

import msgspec

from conveyor.model.errors import ConflictError
from conveyor.store.documents import record_name
from conveyor.store.protocol import Store
from conveyor.store.records import TRAIL_KIND, Document
from conveyor.store.retaining import POLICIES, START

TRAIL: Final = "audit"
OPERATOR_ID: Final = "cli"
LIBRARY_ID: Final = "library"
TARGET_CHARS_MAX: Final = 256
SEARCHED_MAX: Final = 10_000
"""Records that one search looks at, however few of them fit."""
_PAGE: Final = 500
_NOT_SEALED: Final = frozenset({"is_keyed", "hash", "number"})
_TAIL: Final = len(b',"hash":""}') + 64


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the trail."""

    at: int
    actor: str
    """The id of a token, `environment`, `cli`, or `library` for an app."""
    name: str
    """Of the token, or of the user of the operating system."""
    address: str
    action: str
    target: str
    result: str
    """`ok`, or the code of an error."""
    request_id: str = ""
    via: str = ""
    """`http`, `cli` or `library`."""
    before: dict[str, Any] | None = None
    """What the change found there; with `after`, only what differs."""
    after: dict[str, Any] | None = None
    count: int | None = None
    """Of a change of many messages: how many."""
    is_keyed: bool = False
    """Sealed with the server's pepper."""
    hash: str = ""
    number: int = 0
    """From 1; where it stands."""


class Who(Protocol):
    """Whoever changes something: a caller of the server, an operator in a shell, an app."""

    @property
    def token_id(self) -> str | None: ...

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def via(self) -> str: ...


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who needs no token."""

    token_id: str | None
    name: str
    address: str
    via: str


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which records are meant; None is any. Patterns as of `fnmatch`."""

    who: str | None = None
    """The actor, the name, or `name@address`."""
    action: str | None = None
    target: str | None = None
    since: int | None = None
    """Milliseconds of the store's clock, this one included."""

    def fits(self, record: Record) -> bool:
        names = (record.actor, record.name, f"{record.name}@{record.address}")
        return (
            (self.who is None or any(fnmatchcase(each, self.who) for each in names))
            and (self.action is None or fnmatchcase(record.action, self.action))
            and (self.target is None or fnmatchcase(record.target, self.target))
            and (self.since is None or record.at >= self.since)
        )


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was written."""

    number: int
    problem: str


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` found."""

    records: int
    head: str
    """`NUMBER:HASH` of the last record: kept elsewhere, it proves later that nothing before it was changed."""
    faults: list[Fault]
    pruned: int = 0
    """So many of the first ones were taken away, as the retention of the trail says."""


def operator() -> Actor:
    """Whoever works on the store itself, from a shell of this machine."""
    return Actor(token_id=OPERATOR_ID, name=_user(), address=socket.gethostname(), via="cli")


def app_actor(person: str | None = None) -> Actor:
    """An app that changes something of its own accord, or for somebody whom it knows."""
    return Actor(token_id=LIBRARY_ID, name=person or _user(), address=socket.gethostname(), via="library")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"


class Audit:
    """The trail of a store."""

    def __init__(self, store: Store, *, pepper: str | None = None) -> None:
        self._store = store
        self._pepper = None if pepper is None else pepper.encode()

    async def record(self, who: Who, action: str, target: str, *, result: str, request_id: str = "") -> Record:
        """Add a record; it is safely in the store when this returns. `StoreError`."""
        body = self.body_of(
            Record(
                at=self._store.clock.now_ms(), actor=who.token_id or "", name=who.name, address=who.address,
                action=action, target=target, result=result, request_id=request_id, via=who.via,
            )
        )  # fmt: skip
        return await self.append(body)

    def body_of(self, record: Record) -> bytes:
        """What is sealed of it; what it does not have is left out."""
        record = msgspec.structs.replace(record, target=record.target[:TARGET_CHARS_MAX])
        facts = msgspec.structs.asdict(record)
        body = {name: value for name, value in facts.items() if name not in _NOT_SEALED and value is not None}
        return msgspec.json.encode(body | {"is_keyed": self._pepper is not None})

    async def append(self, body: bytes) -> Record:
        """One that `body_of` made."""
        return _read(await self._store.append_record(TRAIL, body, self.seal))

    def examine(self, head: bytes) -> None:
        """`ConflictError` if a record that this side makes would break the chain that ends so."""
        if self._pepper is None and _is_keyed(head):
            raise ConflictError(
                "this store's audit trail is sealed with a pepper, and a change made here could not be recorded",
                hint="set CONVEYOR_PEPPER as the server has it",
            )

    async def list(self, *, limit: int, before: int | None = None) -> list[Record]:
        """The newest first, from the one before number `before` on."""
        head = await self._store.get_document(TRAIL_KIND, TRAIL)
        end = (0 if head is None else head.version) if before is None else max(0, before - 1)
        first = max(0, end - limit)
        found = await self._store.list_documents(TRAIL, after=record_name(first), limit=end - first)
        return [_read(each) for each in reversed(found)]

    async def verify(self, *, expected: str | None = None) -> Examined:
        """Read the whole trail. `expected` is the head of an earlier examination."""
        head = await self._store.get_document(TRAIL_KIND, TRAIL)
        faults: list[Fault] = []
        pruned, start = await self._pruned()
        before, number, last, was_keyed = _hash_in(start), pruned, b"", _is_keyed(start)
        if pruned and not await self._may_be_pruned():
            faults.append(Fault(number=pruned, problem="and those before it are gone, and no retention says so"))
        async for document in self._walk():
            number += 1
            if document.name != record_name(number):
                faults.append(Fault(number=number, problem=f"is missing: `{document.name[:32]}` stands in its place"))
                number = int(document.name) if document.name.isdigit() else number
            problem = self._problem(document.body, before, was_keyed=was_keyed)
            if problem is not None:
                faults.append(Fault(number=number, problem=problem))
            before, last = _hash_in(document.body), document.body
            was_keyed = was_keyed or _is_keyed(document.body)
            if expected is not None and expected.startswith(f"{number}:") and expected != f"{number}:{before}":
                faults.append(Fault(number=number, problem="is not the one that was the head before"))
        counted = 0 if head is None else head.version
        if number != counted or (head is not None and head.body != last):
            faults.append(Fault(number=number, problem=f"is the last one here; the head is number {counted}"))
        if expected is not None and pruned < int(expected.partition(":")[0]) > number:
            faults.append(Fault(number=number, problem=f"is the last one here; {expected[:32]} was the head before"))
        return Examined(records=number, head=f"{number}:{before}", faults=faults, pruned=pruned)

    async def _pruned(self) -> tuple[int, bytes]:
        """How many records retention took away from the beginning, and the last of them."""
        found = await self._store.get_document(TRAIL_KIND, f"{TRAIL}.{START}")
        if found is None:
            return 0, b""
        first = await self._store.list_documents(TRAIL, limit=1)
        name = first[0].name if first else "0"
        return (int(name) - 1 if name.isdigit() and int(name) > 0 else 0), found.body

    async def _may_be_pruned(self) -> bool:
        """Whether somebody has said for how long the trail is kept."""
        return await self._store.get_document(POLICIES, TRAIL) is not None

    async def search(
        self, wanted: Wanted, *, limit: int, before: int | None = None
    ) -> tuple[Sequence[Record], int | None]:
        """As `list`, those that fit, and the number before which to go on, None at the end. No more than
        `SEARCHED_MAX` are looked at, so there may be few, or none, before the end."""
        found: list[Record] = []
        for _ in range(SEARCHED_MAX // _PAGE):
            page = await self.list(limit=_PAGE, before=before)
            for record in page:
                if wanted.since is not None and record.at < wanted.since:
                    return found, None
                if wanted.fits(record):
                    found.append(record)
                    if len(found) == limit:
                        return found, record.number if record.number > 1 else None
            if len(page) < _PAGE:
                return found, None
            before = page[-1].number
        return found, before

    async def _walk(self) -> AsyncIterator[Document]:
        after: str | None = None
        while page := await self._store.list_documents(TRAIL, limit=_PAGE, after=after):
            for document in page:
                yield document
            after = page[-1].name

    def seal(self, before: bytes, body: bytes) -> bytes:
        """The record, with its hash over the one before it."""
        return body[:-1] + b',"hash":"' + self._hash(_hash_in(before), body, keyed=self._pepper is not None) + b'"}'

    def _hash(self, before: str, body: bytes, *, keyed: bool) -> bytes:
        data = before.encode() + body
        if keyed:
            return hmac.new(self._pepper or b"", data, hashlib.sha256).hexdigest().encode()
        return hashlib.sha256(data).hexdigest().encode()

    def _problem(self, sealed: bytes, before: str, *, was_keyed: bool) -> str | None:
        keyed = _is_keyed(sealed)
        if was_keyed and not keyed:
            return "is not sealed with the pepper, though one before it is"
        if keyed and self._pepper is None:
            return "is sealed with a pepper: set CONVEYOR_PEPPER to examine it"
        body = sealed[:-_TAIL] + b"}"
        expected = body[:-1] + b',"hash":"' + self._hash(before, body, keyed=keyed) + b'"}'
        return None if hmac.compare_digest(expected, sealed) else "is not as it was written, or not where it was"


def _hash_in(sealed: bytes) -> str:
    return sealed[-66:-2].decode("latin-1")


def _is_keyed(sealed: bytes) -> bool:
    return b',"is_keyed":true,"hash":"' in sealed[-(_TAIL + 17) :]


def _read(document: Document) -> Record:
    number = int(document.name) if document.name.isdigit() else 0
    try:
        return msgspec.structs.replace(msgspec.json.decode(document.body, type=Record), number=number)
    except msgspec.MsgspecError:  # `verify` says more
        lost = Record(at=0, actor="", name="", address="", action="?", target="", result="unreadable")
        return msgspec.structs.replace(lost, at=document.created_at, number=number)
