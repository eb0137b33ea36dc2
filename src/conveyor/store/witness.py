"""Who acts may hand a store a witness: it is told of each change in the transaction that makes it, and what it says of
it is written to a trail there. No way of a message asks for one; whoever has none pays nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol

import msgspec

from conveyor.store.records import QueueInfo


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing, as it was and as it is. None: it was not there, or is not there any more, or is not shown."""

    kind: str
    """`queue`, `schedule`, `alarm`, `job`, `event`, `group`, `delivery`, `message`, `document` or `kv`."""
    name: str
    before: Any
    after: Any
    answer: Any
    """What the operation answered: a number, those that were there, or the thing itself."""


class Witness(Protocol):
    """Says what is recorded of a change. Its methods may be called on another thread, and again for the same change
    if its transaction is repeated; but for `tell`."""

    @property
    def trail(self) -> str: ...

    def examine(self, head: bytes) -> None:
        """Given the trail's last record, before anything is written: may refuse."""
        ...

    def describe(self, change: Change, now: int) -> bytes | None:
        """The record, before it is sealed; None: there is nothing to be said."""
        ...

    def seal(self, before: bytes, body: bytes) -> bytes: ...

    def tell(self, body: bytes | None, *, is_written: bool) -> None:
        """The change is committed. A record that could not be written with it is still to be written."""
        ...


_WITNESS: Final[ContextVar[Witness | None]] = ContextVar("conveyor_witness", default=None)
_SUBJECT: Final[ContextVar[tuple[str, str] | None]] = ContextVar("conveyor_subject", default=None)


def current_witness() -> Witness | None:
    """Who watches what this task changes."""
    return _WITNESS.get()


@contextmanager
def watched(by: Witness | None) -> Iterator[None]:
    """Until the end of the block, what this task and its children change is told to a witness, or to nobody."""
    token = _WITNESS.set(by)
    try:
        yield
    finally:
        _WITNESS.reset(token)


@contextmanager
def about(kind: str, name: str) -> Iterator[None]:
    """Until the end of the block, what is changed is changed for this thing: it is what a witness is shown."""
    token = _SUBJECT.set((kind, name))
    try:
        yield
    finally:
        _SUBJECT.reset(token)


def subject_of(kind: str, name: str) -> tuple[str, str]:
    """What is shown before and after, where an operation is about to change this."""
    return _SUBJECT.get() or (kind, name)


def subject_after(kind: str, name: str, answer: object) -> tuple[str, str]:
    """What is shown afterwards: the same thing, but for a queue that has another name now."""
    return kind, answer.name if kind == "queue" and isinstance(answer, QueueInfo) else name


def split_name(name: str) -> tuple[str, str]:
    """What stands before and after the first `/`: kind and name of a document, queue and id of a message."""
    first, _, second = name.partition("/")
    return first, second


def read_hex(name: str) -> bytes:
    """An id; empty, which nothing has, if it is none."""
    try:
        return bytes.fromhex(name)
    except ValueError:
        return b""
