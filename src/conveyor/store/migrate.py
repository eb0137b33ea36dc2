"""Numbered, forward-only migrations: which are due, and whether those that ran are still the ones that we ship."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from conveyor.model.errors import StoreUnsupportedError
from conveyor.store.note import NOTE_NUMBER, read_note
from conveyor.store.queries import load_migrations

_COMMENT: Final = re.compile(r"--.*")
_TABLE: Final = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+) \((.*?)\n?\)[^,]*?;", re.DOTALL)
_UNIQUE: Final = re.compile(r"^\s*(\w+)[^,]*\bUNIQUE\b", re.MULTILINE)
_INDEX: Final = re.compile(r"(CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?(\w+) ON [^;]+)")
_MADE: Final = re.compile(r"CREATE (?:OR REPLACE )?(?:TABLE|SEQUENCE|FUNCTION) (?:IF NOT EXISTS )?(\w+)")
_DROPPED: Final = re.compile(r"DROP INDEX (?:IF EXISTS )?(\w+)")


class Migration(msgspec.Struct, frozen=True):
    """One numbered file."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


class AppliedMigration(msgspec.Struct, frozen=True, kw_only=True):
    """One that ran here, as the store recorded it."""

    number: int
    name: str
    checksum: str
    ran_at: int


class SchemaState(msgspec.Struct, frozen=True, kw_only=True):
    """A store's schema beside the one that we ship."""

    applied: list[AppliedMigration]
    due: list[Migration]
    unknown: list[AppliedMigration] = []
    """What ran and this release does not ship: of a newer one, or the note of a move."""
    problem: str | None = None
    """Why this release cannot use the store."""
    hint: str = ""


def expected_indexes(dialect: str) -> dict[str, str]:
    """All indexes that the shipped migrations leave behind, in order: each name, as PostgreSQL gives it, and the
    statement that makes it; nothing for those of constraints."""
    found: dict[str, str] = {}
    for _, _, text in load_migrations(dialect):
        statements = _COMMENT.sub("", text)
        for table, body in _TABLE.findall(statements):
            found |= {f"{table}_pkey": ""} if "PRIMARY KEY" in body else {}
            found |= {f"{table}_{column}_key": "" for column in _UNIQUE.findall(body)}
        found |= {name: statement for statement, name in _INDEX.findall(statements)}
        found = {name: how for name, how in found.items() if name not in _DROPPED.findall(statements)}
    return found


def shipped_names(dialect: str) -> list[str]:
    """The tables, sequences and functions that the shipped migrations make, and the table that counts them."""
    texts = [_COMMENT.sub("", text) for _, _, text in load_migrations(dialect)]
    return sorted({"migrations", *(name for text in texts for name in _MADE.findall(text))})


def compare_schema(dialect: str, applied: Sequence[AppliedMigration]) -> SchemaState:
    """As `plan_migrations`, for those who want to look rather than go on."""
    shipped = {number for number, _, _ in load_migrations(dialect)}
    known = [each for each in applied if each.number in shipped]
    unknown = [each for each in applied if each.number not in shipped]
    try:
        due = plan_migrations(dialect, applied)
    except StoreUnsupportedError as error:
        return SchemaState(applied=known, due=[], unknown=unknown, problem=error.message, hint=error.hint)
    return SchemaState(applied=known, due=due, unknown=unknown)


def plan_migrations(dialect: str, applied: Sequence[AppliedMigration]) -> list[Migration]:
    """Those still to run, given those that ran.

    `StoreMovedError` if a move has left its note; `StoreUnsupportedError` if the store is newer than this release, or a
    file that ran has changed since.
    """
    shipped = [Migration(*row) for row in load_migrations(dialect)]
    newest, ran = shipped[-1].number, {each.number: each for each in applied}
    if NOTE_NUMBER in ran:
        raise read_note(ran[NOTE_NUMBER].name, ran[NOTE_NUMBER].checksum).refusal()
    if any(number > newest for number in ran):
        raise StoreUnsupportedError(
            f"the store has schema version {max(ran)}, this release knows {newest}",
            hint="upgrade conveyor in this process: schemas only move forward",
        )
    for migration in shipped:
        if migration.number in ran and ran[migration.number].checksum != migration.checksum:
            raise StoreUnsupportedError(
                f"migration `{migration.name}` ran here in another form",
                hint="the store was made by an unreleased version; move its messages to a new one",
            )
    return [migration for migration in shipped if migration.number not in ran]
