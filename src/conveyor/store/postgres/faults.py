"""asyncpg's errors turned into ours, by SQLSTATE; and which of them are worth waiting, or another try."""

from __future__ import annotations

from typing import Final

import asyncpg

from conveyor.model.errors import (
    StoreAwayError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnsupportedError,
)
from conveyor.store.note import read_note

DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What the library may raise; a time-out is an OSError."""

# 40001 and 40P01: another transaction was in the way. 23505: somebody else made the same row first; look again.
# 0A000 from a cached plan: the schema has moved on.
_AGAIN: Final = frozenset({"40001", "40P01", "23505", "55P03"})
_BUSY: Final = frozenset({"40001", "40P01", "55P03", "57014"})
_CROWDED: Final = "53300"
_FULL: Final = frozenset({"53100", "53200"})
_READ_ONLY: Final = {
    "25006": "`conveyor doctor` says why: a standby, or default_transaction_read_only",
    "42501": "let the role own the schema and its tables; to make a schema it needs CREATE in the database",
}
_LOCKED: Final = "55P03"
_CORRUPT: Final = frozenset({"XX001", "XX002"})
_CLOSED: Final = "CV001"
"""Raised by the trigger that a move leaves, in the words of its note."""
# Shut down, crashed, coming up; and what a server does to a connection that has been idle for too long.
_GONE: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})
# A prepared statement that is not there, or there already: a pooler handed us another session.
_POOLED: Final = frozenset({"26000", "42P05"})


class StandbyError(ConnectionError):
    """The server answers, but takes no writes: it follows another one."""


def sqlstate(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def is_lost(error: BaseException) -> bool:
    """The connection is gone or hangs, or the server is on its way down or up."""
    if isinstance(error, asyncpg.PostgresError):
        return sqlstate(error) in _GONE or sqlstate(error).startswith("08")
    if isinstance(error, ValueError):  # an argument of ours that the library, or its TLS, does not take
        return False
    return isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError | EOFError)


def is_crowded(error: BaseException) -> bool:
    """All of the server's connections are taken."""
    return sqlstate(error) == _CROWDED


def is_read_only(error: BaseException) -> bool:
    return sqlstate(error) == "25006"


def is_worth_another_try(error: BaseException) -> bool:
    """Nothing was written, and the same may well succeed now."""
    return sqlstate(error) in _AGAIN or isinstance(error, asyncpg.InvalidCachedStatementError)


def is_there_already(error: BaseException) -> bool:
    """A message of this id is there. Ids are made once, so it is ours, from an earlier try."""
    return sqlstate(error) == "23505" and getattr(error, "constraint_name", None) == "messages_id_key"


def translate(error: BaseException, where: str) -> StoreError:
    """Our error for the library's."""
    state = sqlstate(error)
    if state == _CLOSED:
        return read_note(str(error), "").refusal()
    if state == _LOCKED:
        problem = f"a transaction of somebody's keeps `{where}` busy"
        return StoreBusyError(where, problem=problem, hint="`conveyor doctor` names it")
    if state in _BUSY:
        hint = "look for a long transaction that holds locks"
        return StoreBusyError(where, problem=f"`{where}` is busy: {error}", hint=hint)
    if state == _CROWDED:
        hint = "raise its `max_connections`, ask for fewer with `?pool=`, or put PgBouncer in between"
        return StoreBusyError(where, problem=f"`{where}` has no connection left: {error}", hint=hint)
    if state in _FULL:
        return StoreFullError(where)
    if state in _READ_ONLY:
        return StoreReadOnlyError(where, problem=str(error), hint=_READ_ONLY[state])
    if state in _CORRUPT:
        return StoreCorruptError(where, str(error))
    if state in {"3D000", "28P01", "28000"}:
        return StoreUnsupportedError(f"`{where}`: {error}", hint="check CONVEYOR_URL: database, user and password")
    if state in _POOLED:
        return StoreUnsupportedError(
            f"`{where}`: {error}", hint="a pooler is in between: say `?pooler=true` in CONVEYOR_URL"
        )
    if isinstance(error, StandbyError):
        return StoreReadOnlyError(where, hint="it is a standby: promote it, or name the primary in CONVEYOR_URL too")
    if is_lost(error):
        return StoreAwayError(where, str(error) or "it does not answer")
    return StoreError(f"`{where}`: {type(error).__name__} {state}: {error}")
