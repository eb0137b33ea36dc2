"""Numbered, forward-only migrations: which are due, and whether those that ran are still the ones that we ship."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from conveyor.model.errors import StoreUnsupportedError
from conveyor.store.queries import load_migrations


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
    problem: str | None = None
    """Why this release cannot use the store."""
    hint: str = ""


def compare_schema(dialect: str, applied: list[AppliedMigration]) -> SchemaState:
    """As `plan_migrations`, for those who want to look rather than go on."""
    try:
        due = plan_migrations(dialect, {each.number: each.checksum for each in applied})
    except StoreUnsupportedError as error:
        return SchemaState(applied=applied, due=[], problem=error.message, hint=error.hint)
    return SchemaState(applied=applied, due=due)


def plan_migrations(dialect: str, applied: Mapping[int, str]) -> list[Migration]:
    """Those still to run, given the checksums of those that ran, by number.

    `StoreUnsupportedError` if the store is newer than this release, or a file that ran has changed since.
    """
    shipped = [Migration(*row) for row in load_migrations(dialect)]
    newest = shipped[-1].number
    if any(number > newest for number in applied):
        raise StoreUnsupportedError(
            f"the store has schema version {max(applied)}, this release knows {newest}",
            hint="upgrade conveyor in this process: schemas only move forward",
        )
    for migration in shipped:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise StoreUnsupportedError(
                f"migration `{migration.name}` ran here in another form",
                hint="the store was made by an unreleased version; move its messages to a new one",
            )
    return [migration for migration in shipped if migration.number not in applied]
