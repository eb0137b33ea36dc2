"""Who acts may hand a store a witness: it is told of each change in the transaction that makes it, and what it says of
it is written to a trail there. No way of a message asks for one; whoever has none pays nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, Protocol

import msgspec


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing, as it was and as it is. None: it was not there, or is not there any more, or is not shown."""

    kind: str
    """`queue`, `schedule`, `alarm`, `job`, `delivery`, `message`, `document` or `kv`."""
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

    def subject(self, kind: str, name: str) -> tuple[str, str]:
        """What is looked at before and after, where an operation is about to change this."""
        ...

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


def current_witness() -> Witness | None:
    """Who watches what this task changes."""
    return _WITNESS.get()


class watched:  # noqa: N801  # reads as a word: `with watched(by):`
    """Until the end of the block, what this task and its children change is told to a witness, or to nobody."""

    def __init__(self, by: Witness | None) -> None:
        self._by = by

    def __enter__(self) -> None:
        self._token = _WITNESS.set(self._by)

    def __exit__(self, *_error: object) -> None:
        _WITNESS.reset(self._token)


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
