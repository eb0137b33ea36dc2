"""asyncpg's errors turned into ours, by SQLSTATE; and which of them are worth another try."""

from __future__ import annotations

from typing import Final

import asyncpg

from conveyor.model.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnsupportedError,
)
from conveyor.store.note import read_note

# 40001 and 40P01: another transaction was in the way. 23505: somebody else made the same row first; look again.
# 0A000 from a cached plan: the schema has moved on.
_AGAIN: Final = frozenset({"40001", "40P01", "23505", "55P03"})
_BUSY: Final = frozenset({"40001", "40P01", "55P03", "57014", "53300"})
_FULL: Final = frozenset({"53100", "53200"})
_READ_ONLY: Final = {
    "25006": "`conveyor doctor` says why: a standby, or default_transaction_read_only",
    "42501": "let the role own the schema and its tables; to make a schema it needs CREATE in the database",
}
_LOCKED: Final = "55P03"
_CORRUPT: Final = frozenset({"XX001", "XX002"})
_CLOSED: Final = "CV001"
"""Raised by the trigger that a move leaves, in the words of its note."""
_GONE: Final = frozenset({"57P01", "57P02", "57P03"})


def sqlstate(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def is_lost(error: BaseException) -> bool:
    """The connection is gone, or the server is on its way down or up."""
    if isinstance(error, asyncpg.PostgresError):
        return sqlstate(error) in _GONE or sqlstate(error).startswith("08")
    return isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError | EOFError)


def is_worth_another_try(error: BaseException) -> bool:
    """Nothing was written, and the same may well succeed now."""
    return sqlstate(error) in _AGAIN or isinstance(error, asyncpg.InvalidCachedStatementError)


def translate(error: BaseException, where: str) -> StoreError:
    """Our error for the library's."""
    state = sqlstate(error)
    if state == _CLOSED:
        return read_note(str(error), "").refusal()
    if state == _LOCKED:
        problem = f"a transaction of somebody's keeps `{where}` busy"
        return StoreBusyError(where, problem=problem, hint="`conveyor doctor` names it")
    if state in _BUSY:
        return StoreBusyError(where, 0)
    if state in _FULL:
        return StoreFullError(where)
    if state in _READ_ONLY:
        return StoreReadOnlyError(where, problem=str(error), hint=_READ_ONLY[state])
    if state in _CORRUPT:
        return StoreCorruptError(where, str(error))
    if state in {"3D000", "28P01", "28000"}:
        return StoreUnsupportedError(f"`{where}`: {error}", hint="check CONVEYOR_URL: database, user and password")
    if is_lost(error):
        return StoreError(f"`{where}` cannot be reached: {error}", hint="is it running? work goes on when it is")
    return StoreError(f"`{where}`: {type(error).__name__} {state}: {error}")
