"""All named statements of concierge's tables: of its ledger, of exports, of cleanups."""

from collections.abc import Mapping
from typing import Final

from conveyor_apps.tables import read_statements

FILES: Final = ("ledger.sql", "exports.sql", "cleanup.sql")


def all_statements() -> Mapping[str, str]:
    """By their names; `schema` makes the tables that are not there."""
    return {name: sql for file in FILES for name, sql in read_statements("conveyor_apps.concierge", file).items()}
