"""A migration runs while workers of the release before go on, so it only adds: what their statements name stays, and what
is new may be left out."""

from __future__ import annotations

import re

import pytest

from conveyor.store.queries import load_migrations

TAKES_AWAY = re.compile(
    r"DROP\s+(TABLE|COLUMN|SEQUENCE|FUNCTION)|\bRENAME\b|SET\s+NOT\s+NULL|ALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE|SET\s+SCHEMA",
    re.IGNORECASE,
)
ADDS_A_COLUMN = re.compile(r"ADD\s+(?:COLUMN\s+)?\w+\s[^,;]*", re.IGNORECASE)


def faults_of(text: str) -> list[str]:
    text = re.sub(r"--.*", "", text)
    bare = [
        found[0].strip()
        for found in ADDS_A_COLUMN.finditer(text)
        if re.search(r"NOT\s+NULL", found[0], re.IGNORECASE) and not re.search("DEFAULT", found[0], re.IGNORECASE)
    ]
    return [found[0] for found in TAKES_AWAY.finditer(text)] + bare


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_a_migration_only_adds(dialect: str) -> None:
    found = {name: faults_of(text) for _, name, text in load_migrations(dialect)}
    assert not {name: faults for name, faults in found.items() if faults}, "workers of the release before would break"


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE kv",
        "ALTER TABLE kv DROP COLUMN value",
        "ALTER TABLE kv RENAME COLUMN value TO worth",
        "ALTER TABLE kv ALTER COLUMN value TYPE text",
        "ALTER TABLE kv ALTER COLUMN expires_at SET NOT NULL",
        "ALTER TABLE kv ADD COLUMN more integer NOT NULL",
    ],
)
def test_what_takes_away_is_seen(text: str) -> None:
    assert faults_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE more (n integer NOT NULL, DROPPED text) -- no DROP TABLE here",
        "ALTER TABLE kv ADD COLUMN more integer NOT NULL DEFAULT 0, ADD COLUMN less integer",
        "DROP INDEX kv_expiry; CREATE INDEX kv_expiry ON kv (expires_at)",
        "ALTER TABLE messages SET (autovacuum_vacuum_scale_factor = 0.02)",
    ],
)
def test_what_adds_is_let_through(text: str) -> None:
    assert not faults_of(text)
